"""The norm of the gradient: means over intervals, the same after a resume, and what is not finite."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from lockstep.data.common.errors import TrainingError
from lockstep.training.loop.norm_meter import NormMeter

CPU = torch.device("cpu")


def _meter(names: tuple[str, ...] = ("grad_norm",), *, skips: bool = False) -> NormMeter:
    return NormMeter(3, names, skips=skips)


def _fed(meter: NormMeter, values: dict[int, float]) -> NormMeter:
    for step, value in values.items():
        meter.add(step, [torch.tensor(value, dtype=torch.float32)])
    return meter


def test_an_interval_is_its_mean_exactly_and_read_once() -> None:
    meter = _fed(_meter(), {1: 0.1, 2: 0.2, 3: 0.7, 4: 5.0})
    expected = sum(float(torch.tensor(value)) for value in (0.1, 0.2, 0.7)) / 3
    assert meter.take(3) == {"train/grad_norm": pytest.approx(expected, rel=1e-15)}
    assert meter.take(3) == meter.take(4) == {}
    meter.close(4)
    assert meter.take(4) == {"train/grad_norm": 5.0}


def test_each_optimizer_has_its_own() -> None:
    meter = _meter(("grad_norm_a", "grad_norm_b"))
    meter.add(1, [torch.tensor(1.0), torch.tensor(2.0)])
    meter.close(1)
    assert meter.take(1) == {"train/grad_norm_a": 1.0, "train/grad_norm_b": 2.0}


def test_without_a_norm_there_is_nothing_to_take_or_to_keep() -> None:
    meter = _meter(())
    meter.add(1, [])
    meter.close(1)
    assert (meter.take(1), meter.state(1)) == ({}, {})


@pytest.mark.parametrize("skips", [False, True])
def test_a_resumed_interval_is_the_whole_one(*, skips: bool) -> None:
    values = {1: 0.3, 2: torch.inf if skips else 0.4, 3: 0.6}
    whole = _fed(_meter(skips=skips), values)
    cut = _fed(_meter(skips=skips), {1: values[1], 2: values[2]})
    state: dict[str, Any] = json.loads(json.dumps(cut.state(2), allow_nan=False))
    resumed = _meter(skips=skips)
    resumed.restore(state, CPU)
    _fed(resumed, {3: values[3]})
    assert resumed.take(3) == whole.take(3) != {}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_norm_that_is_no_number_ends_the_run_with_its_step(bad: float) -> None:
    with pytest.raises(TrainingError, match="norm of the gradient is not a number at step 8 of the run"):
        _fed(_meter(), {7: 1.0, 8: bad, 9: 1.0}).take(9)
    with pytest.raises(TrainingError, match="not a number at step 8"):
        _fed(_meter(), {7: 1.0, 8: bad}).state(8)


def test_a_step_that_a_scaler_skips_does_not_count() -> None:
    assert _fed(_meter(skips=True), {1: 1.0, 2: torch.inf, 3: 2.0}).take(3) == {"train/grad_norm": 1.5}
    assert _fed(_meter(skips=True), dict.fromkeys((1, 2, 3), torch.nan)).take(3) == {}

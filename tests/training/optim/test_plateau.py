from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lockstep.training.config.duration import RunLength
from lockstep.training.config.schedules import ScheduleConfig
from lockstep.training.optim.lr_schedule import LRSchedule
from lockstep.training.optim.optimizer_schedule import build_schedule

PEAKS = (0.3, 0.004)
LENGTH = RunLength(10, 1000)


def _schedule(**values: Any) -> tuple[LRSchedule, torch.optim.Optimizer]:
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": peak} for peak in PEAKS])
    config = ScheduleConfig.model_validate({"use": "plateau", **values})
    return build_schedule(config, optimizer, LENGTH, Path()), optimizer


def _rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _values(seed: int, mode: str) -> list[float]:
    """A metric that improves less and less, stays equal at times, and once is not a number."""
    draws = random.Random(seed)
    values = [1 / (1 + at // 3) + draws.choice([0.0, 0.0, 0.1, 1e-5]) for at in range(60)]
    values[20] = float("nan")
    return [2 - value for value in values] if mode == "max" else values


SETTINGS = [
    dict(
        zip(
            ("mode", "threshold_mode", "patience", "cooldown", "factor", "threshold", "min_lr"),
            one,
            strict=True,
        )
    )
    for one in itertools.product(
        ("min", "max"), ("rel", "abs"), (0, 2), (0, 3), (0.1, 0.5), (1e-4, 0.05), (0.0, 0.01)
    )
]


def _compare(settings: dict[str, Any]) -> None:
    schedule, optimizer = _schedule(monitor="val/x", **settings)
    theirs = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": peak} for peak in PEAKS])
    scheduler = ReduceLROnPlateau(theirs, **settings)
    lowered = 0
    for at, value in enumerate(_values(3, settings["mode"])):
        schedule.set(at)
        assert _rates(optimizer) == _rates(theirs), (settings, at)
        lowered += len(schedule.observe({"val/loss": 0.0, "val/x": value}))
        scheduler.step(value)
        if at == 30:  # what a checkpoint holds is enough
            state = json.loads(json.dumps(schedule.state()))
            schedule, optimizer = _schedule(monitor="val/x", **settings)
            schedule.load(state)
    assert lowered


@pytest.mark.parametrize("settings", random.Random(15).sample(SETTINGS, 12), ids=str)
def test_the_rates_are_torchs_and_go_on_from_what_was_saved(settings: dict[str, Any]) -> None:
    _compare(settings)


@pytest.mark.exhaustive
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_rates_are_torchs_with_all_settings(settings: dict[str, Any]) -> None:
    _compare(settings)


def test_what_is_unset_is_torchs_default() -> None:
    schedule, optimizer = _schedule()
    theirs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAKS[0])
    scheduler = ReduceLROnPlateau(theirs)
    for at in range(40):
        value = 1.0 if at else 1.00009  # less than the threshold
        schedule.observe({"val/loss": value})
        scheduler.step(value)
        schedule.set(at)
        assert _rates(optimizer)[0] == _rates(theirs)[0], at
    assert _rates(optimizer)[0] < PEAKS[0]


def test_a_metric_that_was_not_measured_is_no_improvement() -> None:
    schedule, optimizer = _schedule(patience=1)
    for _ in range(2):
        schedule.observe({})
    schedule.set(0)
    assert _rates(optimizer) == pytest.approx([0.03, 4e-4])


def test_a_warm_up_scales_what_the_plateau_has_left() -> None:
    schedule, optimizer = _schedule(patience=0, warmup=10)
    schedule.observe({"val/loss": 1.0})
    assert schedule.observe({"val/loss": 1.0})
    schedule.set(5)
    assert _rates(optimizer) == pytest.approx([0.015, 2e-4])


def test_another_metric_begins_anew_at_the_rates_that_were_reached() -> None:
    schedule, _ = _schedule(patience=0)
    for value in (1.0, 1.0):
        schedule.observe({"val/loss": value})
    other, optimizer = _schedule(patience=0, monitor="val/mae")
    other.load(schedule.state())
    assert not other.observe({"val/mae": 9.0})
    other.set(0)
    assert _rates(optimizer) == pytest.approx([0.03, 4e-4])

from __future__ import annotations

import math

import pytest
import torch

from lockstep.data.common.errors import TrainingError
from lockstep.training.loop.loss_meter import LossMeter, Reading
from lockstep.training.rank.process_group import Group


def _meter(
    group: Group, every: int, losses: list[float], samples: int = 2
) -> tuple[list[Reading], LossMeter]:
    meter = LossMeter(group, every)
    readings = [meter.add(step, torch.tensor(loss), None, samples) for step, loss in enumerate(losses, 1)]
    return [reading for reading in readings if reading is not None], meter


def test_an_interval_is_read_one_interval_later(alone: Group) -> None:
    readings, meter = _meter(alone, 2, [1.0, 2.0, 3.0, 4.0])
    assert readings == [Reading(2, 3.0, 4.0)]
    assert meter.close(4) == [Reading(4, 7.0, 4.0)]


def test_closing_reads_what_is_left_of_an_interval_too(alone: Group) -> None:
    readings, meter = _meter(alone, 2, [1.0, 2.0, 3.0])
    assert readings == []
    assert meter.close(3) == [Reading(2, 3.0, 4.0), Reading(3, 3.0, 2.0)]
    assert meter.close(3) == []


def test_nothing_is_lost_whatever_the_interval(alone: Group) -> None:
    losses = [float(step) for step in range(1, 18)]
    for every in range(1, 20):
        readings, meter = _meter(alone, every, losses)
        readings += meter.close(17)
        assert sum(reading.loss for reading in readings) == sum(losses)
        assert sum(reading.weight for reading in readings) == 34.0
        assert [reading.step for reading in readings] == sorted({*range(every, 18, every), 17})


def test_a_loss_with_weights_is_divided_by_them(alone: Group) -> None:
    meter = LossMeter(alone, 10)
    meter.add(1, torch.tensor(6.0), torch.tensor(1.0), 2)
    meter.add(2, torch.tensor(6.0), torch.tensor(3.0), 2)
    (reading,) = meter.close(2)
    assert reading.mean == 3.0


def test_small_losses_are_not_lost_beside_large_ones(alone: Group) -> None:
    meter = LossMeter(alone, 3)
    for step, loss in enumerate([2.0**24, 1.0, 1.0], 1):
        meter.add(step, torch.tensor(loss), None, 1)
    assert meter.close(3)[0].loss == 2.0**24 + 2


def test_no_weight_is_no_mean() -> None:
    assert math.isnan(Reading(1, 0.0, 0.0).mean)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("every", [1, 3, 4, 100])
def test_the_first_step_without_a_number_is_named(alone: Group, value: float, every: int) -> None:
    losses = [1.0] * 9 + [value, 1.0, value]
    with pytest.raises(TrainingError, match="at step 10 of the run"):
        _meter(alone, every, losses)[1].close(12)


def test_an_interval_that_became_shorter_ends_at_once(alone: Group) -> None:
    _, before = _meter(alone, 50, [1.0] * 26)
    meter = LossMeter(alone, 10)
    meter.restore(before.state(26))
    readings = [meter.add(step, torch.tensor(1.0), None, 2) for step in range(27, 57)]
    assert [reading.step for reading in [*readings, *meter.close(56)] if reading is not None] == [
        27,
        37,
        47,
        56,
    ]


def test_each_term_of_a_step_is_divided_by_its_own_weight(alone: Group) -> None:
    meter = LossMeter(alone, 2, ("kl", "l1"))
    rows = [torch.tensor([[1.0, 2.0], [4.0, 0.0]]), torch.tensor([[3.0, 2.0], [4.0, 1.0]])]
    assert meter.add(1, torch.tensor(1.0), None, 2, rows[0].double()) is None
    state = meter.state(1)
    meter = LossMeter(alone, 2, ("kl", "l1"))
    meter.restore(state)
    meter.add(2, torch.tensor(1.0), None, 2, rows[1].double())
    (reading,) = meter.close(2)
    assert reading.terms == {"kl": (4.0, 4.0), "l1": (8.0, 1.0)}
    assert reading.means == {"kl": 1.0, "l1": 8.0}


def test_a_state_without_terms_is_one_of_an_earlier_version(alone: Group) -> None:
    assert "terms" not in LossMeter(alone, 2).state(0)


def test_means_up_to_a_step_leave_the_intervals_as_they_are(alone: Group) -> None:
    readings = []
    for looks in (False, True):
        meter, found = LossMeter(alone, 3), []
        for step in range(1, 9):
            found.append(meter.add(step, torch.tensor(float(step)), None, 2))
            if looks and step == 5:
                assert meter.sums_so_far(6.0, 6.0, {}) == {"train/loss": (6 + 4 + 5) / 10}
        readings.append([*found, *meter.close(8)])
    assert readings[0] == readings[1]
    assert math.isnan(LossMeter(alone, 3).sums_so_far(0.0, 0.0, {})["train/loss"])


def test_means_up_to_a_step_include_the_terms_of_a_step(alone: Group) -> None:
    meter = LossMeter(alone, 9, ("kl",))
    for step in (1, 2):
        meter.add(step, torch.tensor(3.0), None, 2, torch.tensor([[4.0, 8.0]], dtype=torch.float64))
    assert meter.sums_so_far(0.0, 0.0, {"kl": [2.0, 4.0]}) == {"train/loss": 1.5, "train/kl": 0.5}

from __future__ import annotations

import random

import pytest

from lockstep.training.config.duration import parse_duration
from lockstep.training.loop.evaluation_times import EvaluationTimes

EPOCH = 7


def _due(every: str | None) -> list[int]:
    times = EvaluationTimes(None if every is None else parse_duration(every), EPOCH)
    return [step for step in range(30) if times.is_due(step)]


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        (None, [7, 14, 21, 28]),
        ("1 epoch", [7, 14, 21, 28]),
        ("2 epochs", [14, 28]),
        ("0.5 epochs", [4, 7, 11, 14, 18, 21, 25, 28]),
        ("0.1 epochs", sorted({-(-7 * times // 10) for times in range(1, 42)})),
        ("10 steps", [10, 20]),
        ("1", list(range(1, 30))),
        ("100", []),
        ("10 minutes", []),
    ],
)
def test_it_is_due_after_each_interval(every: str | None, steps: list[int]) -> None:
    assert _due(every) == steps


def test_a_resumed_run_may_ask_of_any_step_first() -> None:
    for every in ("3 steps", "0.5 epochs", "0.3 epochs"):
        due = _due(every)
        steps = list(range(30))
        random.Random(1).shuffle(steps)
        times = EvaluationTimes(parse_duration(every), EPOCH)
        assert sorted(step for step in steps if times.is_due(step)) == due
        for step in steps:
            assert EvaluationTimes(parse_duration(every), EPOCH).is_due(step) == (step in due)


def test_minutes_follow_the_clock() -> None:
    assert EvaluationTimes(parse_duration("10 minutes"), EPOCH).by_clock
    assert not EvaluationTimes(None, EPOCH).by_clock

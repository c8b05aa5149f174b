from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lockstep.training.loop.stragglers import STEPS, Stragglers, straggler
from lockstep.training.rank.process_group import Group
from tests.helpers.threaded_ranks import threaded_groups

CASES: list[tuple[list[float], float, Any]] = [
    ([5.0, 0.2, 5.1], 10.0, (1, 4.8)),
    ([0.0, 1.0], 10.0, (0, 1.0)),
    ([0.2, 0.6], 10.0, None),
    ([3.0, 3.1, 3.2], 10.0, None),
    ([0.0, 0.0, 4.0], 10.0, None),
]
"""Waits, seconds, and who is late: of two that are, none alone costs the others' time."""


@pytest.mark.parametrize(("waits", "seconds", "expected"), CASES)
def test_the_rank_that_does_not_wait_is_the_one_that_is_waited_for(
    waits: list[float], seconds: float, expected: Any
) -> None:
    found = straggler(waits, seconds)
    assert found == (expected if expected is None else (expected[0], pytest.approx(expected[1])))


def _watched(group: Group, wait: float) -> list[tuple[int, dict[str, Any]]]:
    """Count steps of 10 ms, in which a rank waits for ``wait``; ``time`` is the test's own."""
    stepper: Any = SimpleNamespace(waited=0.0)
    stragglers, said = Stragglers(group, stepper), []
    for step in range(1, 4 * STEPS + 1):
        stepper.waited += wait
        if found := stragglers.add():
            said.append((step, found))
    return said


def _summed(group: Group, values: torch.Tensor) -> Any:
    group.sum(values)
    return SimpleNamespace(wait=lambda: None)


def test_all_ranks_name_a_straggler_once_when_its_steps_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**6))
    monkeypatch.setattr(time, "monotonic", lambda: 0.25 * next(ticks))
    groups = threaded_groups()
    for group in groups:  # the sum is there at once: threads have no work that is under way
        object.__setattr__(group, "all_reduce_sum_async", partial(_summed, group))
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(_watched, groups, (0.004, 0.0))
    assert [step for step, _ in one] == [step for step, _ in other] == [3 * STEPS]
    found = one[0][1]
    assert (found["rank"], found["steps"]) == (1, STEPS)
    assert found["lag_milliseconds"] == pytest.approx(4)


def test_one_process_and_a_gpu_have_none_to_watch() -> None:
    stepper: Any = SimpleNamespace(waited=0.0)
    assert Stragglers.for_ranks(Group(0, 0, 1, torch.device("cpu")), stepper) is None
    assert Stragglers.for_ranks(Group(0, 0, 2, torch.device("cuda", 0)), stepper) is None
    assert Stragglers.for_ranks(Group(0, 0, 2, torch.device("cpu")), stepper) is not None

"""Ranks that share one page with a supervisor: they stop at the same step, and need not ask each other."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest

from lockstep.training.rank.control_page import NO_HORIZON, ControlPage, Horizon, RankControl


@pytest.fixture
def page(tmp_path: Path) -> ControlPage:
    return ControlPage(tmp_path / "page", 3)


def test_without_a_supervisor_there_is_no_horizon() -> None:
    control = RankControl(None, 0)
    assert not control.supervised
    assert all(control.may_start(step) for step in (0, 1, 10**12, NO_HORIZON - 1))
    assert not control.stopping
    assert not control.is_checkpoint_due(5)


def test_a_rank_goes_as_far_as_the_horizon_and_ends_there(page: ControlPage) -> None:
    control, horizon = RankControl(page, 1), Horizon(page)
    horizon.raise_horizon(3)
    assert [control.may_start(step) for step in range(3)] == [True] * 3
    assert horizon.stop() == 3
    assert not control.may_start(3)
    horizon.raise_horizon(10)
    assert not control.may_start(3), "a final horizon is final"
    assert control.stopping


def test_progress_and_phase_are_seen(page: ControlPage) -> None:
    control, horizon = RankControl(page, 2), Horizon(page)
    horizon.raise_horizon(8)
    control.may_start(7)
    assert control.enter("evaluation") == "starting"
    step, phase, silent = horizon.progress(2)
    assert (step, phase) == (7, "evaluation")
    assert 0 <= silent < 60
    assert horizon.steps() == [0, 0, 7]
    horizon.extend()
    assert horizon.value >= 9


def test_another_process_sees_the_same_page(tmp_path: Path) -> None:
    page = ControlPage(tmp_path / "page", 1)
    Horizon(page).raise_horizon(5)
    if (pid := os.fork()) == 0:
        own = RankControl(ControlPage(tmp_path / "page", 1), 0)
        os._exit(0 if own.may_start(4) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert Horizon(page).steps() == [4]


def test_the_horizon_never_comes_nearer(page: ControlPage) -> None:
    horizon = Horizon(page)
    horizon.raise_horizon(9)
    horizon.raise_horizon(4)
    assert horizon.value == 9


def _run(control: RankControl, ended: dict[int, int], asked: dict[int, list[int]], rank: int) -> None:
    """A rank that is now and then slow."""
    draw, step = random.Random(rank), 0
    while control.may_start(step):
        if control.is_checkpoint_due(step):
            asked[rank].append(step)
        if control.is_evaluation_due(step):
            asked[rank].append(-step)
        if draw.random() < 0.02:
            time.sleep(0.001)
        step += 1
    ended[rank] = step


@pytest.mark.parametrize("seed", range(5))
def test_all_ranks_stop_at_one_step_and_take_the_same_checkpoints(page: ControlPage, seed: int) -> None:
    draw, horizon = random.Random(seed), Horizon(page)
    ended: dict[int, int] = {}
    asked: dict[int, list[int]] = {rank: [] for rank in range(3)}
    ranks = [
        threading.Thread(target=_run, args=(RankControl(page, rank), ended, asked, rank)) for rank in range(3)
    ]
    for rank in ranks:
        rank.start()
    wanted = []
    for _ in range(draw.randrange(5, 15)):
        horizon.extend()
        time.sleep(draw.uniform(0, 0.004))
        if draw.random() < 0.5:
            wanted.append(horizon.request_checkpoint())
        if draw.random() < 0.5:
            wanted.append(-horizon.request_evaluation())
    last = horizon.stop()
    for rank in ranks:
        rank.join(60)
    assert ended == dict.fromkeys(range(3), last)
    assert asked[0] == asked[1] == asked[2]
    assert sorted(step for step in {*wanted} if abs(step) < last) == sorted(asked[0])


def test_what_another_node_asks_for_is_copied(page: ControlPage, tmp_path: Path) -> None:
    here, there = Horizon(page), Horizon(ControlPage(tmp_path / "there", 1))
    here.raise_horizon(7)
    here.request_evaluation()
    horizon, checkpoint_at, final, evaluate_at = here.words()
    there.take(horizon, checkpoint_at, final=final, evaluate_at=evaluate_at)
    assert there.words() == (7, 0, False, 7)
    rank = RankControl(ControlPage(tmp_path / "there", 1), 0)
    assert (rank.is_evaluation_due(7), rank.is_evaluation_due(6), rank.is_checkpoint_due(7)) == (
        True,
        False,
        False,
    )


def test_who_is_left_after_a_death_is_told_once(page: ControlPage) -> None:
    control, horizon = RankControl(page, 2), Horizon(page)
    assert control.await_rescue((0, 1, 2), 0) is None
    horizon.request_rescue(1, (0, 2))
    change = control.await_rescue((0, 1, 2), 0)
    assert change is not None
    assert (change.after, change.leaving, change.parting) == ((0, 2), (1,), (0, 2))
    control.enter_world(change, 5)
    assert control.await_rescue((0, 2), 0) is None
    assert not control.is_change_due(0), "an earlier change, or none, is not due again"


def test_nobody_waits_for_the_dead(page: ControlPage) -> None:
    ranks = [RankControl(page, number) for number in range(3)]
    Horizon(page).request_rescue(1, (0, 2))
    change = ranks[0].await_rescue((0, 1, 2), 0)
    assert change is not None
    other = threading.Thread(target=ranks[2].leave_world, args=(change,))
    other.start()
    ranks[0].leave_world(change)
    other.join(10)
    assert not other.is_alive()

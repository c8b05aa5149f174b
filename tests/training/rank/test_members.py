"""Processes that come and go: who is in a world, and how ranks agree on a step without asking each other."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from lockstep.training.rank.control_page import ControlPage, Horizon, RankControl
from lockstep.training.rank.members import MOST_PROCESSES, Members, WorldChange, from_words, resized, to_words


def test_the_last_leave_and_the_lowest_free_numbers_join() -> None:
    assert resized((0, 1, 2), 1) == (0,)
    assert resized((0,), 3) == (0, 1, 2)
    assert resized((0, 2), 3) == (0, 1, 2)
    assert resized((1, 3), 5) == (1, 2, 3, 4, 0), "the first one stays rank 0"
    assert resized((2, 0, 1), 2) == (2, 0)
    assert resized((0, 1), 2) == (0, 1)


@pytest.mark.parametrize(
    "members", [(), (0,), (0, 63, 64, 255), (64, 255, 0, 63), tuple(range(MOST_PROCESSES))]
)
def test_members_survive_the_page(members: Members) -> None:
    assert from_words(to_words(members)) == members
    assert all(word < 2**64 for word in to_words(members))


def test_who_joins_gets_the_state_from_one_that_stays_and_they_take_turns() -> None:
    change = WorldChange(1, (0, 1, 4), (0, 1, 2, 3, 5))
    assert (change.joining, change.leaving) == ((2, 3, 5), (4,))
    assert change.sources == {2: 0, 3: 1, 4: 0}
    assert WorldChange(1, (0, 1), (0,)).sources == {}


def test_a_change_says_whether_rank_0_leaves() -> None:
    assert WorldChange(1, (1, 2), (2, 3)).loses_first
    assert not WorldChange(1, (1, 2), (1, 3)).loses_first


def _run(control: RankControl, until: int, begin: int, found: dict[int, list[tuple[int, Members]]]) -> None:
    """Be a rank that goes over to each world which it is told of, until it leaves."""
    draw, step, members = random.Random(control.number), begin, control.members or (0, 1)
    while control.may_start(step):
        if control.is_change_due(step):
            change = control.change_from(members)
            found[control.number].append((step, change.after))
            control.leave_world(change)
            if control.number not in change.after:
                return
            control.enter_world(change, step)
            members = change.after
            assert not control.is_change_due(step)
            continue
        time.sleep(draw.random() * 2e-3)
        step += 1
        if step == until:
            return


def test_all_ranks_change_at_the_same_step_and_wait_for_each_other(tmp_path: Path) -> None:
    page = ControlPage(tmp_path / "page", 3)
    horizon = Horizon(page)
    horizon.count((0, 1))
    controls = [RankControl(page, number) for number in range(3)]
    found: dict[int, list[tuple[int, Members]]] = {0: [], 1: [], 2: []}
    threads = [threading.Thread(target=_run, args=(controls[rank], 10**9, 0, found)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    horizon.extend()
    horizon.prepare_row(2)
    grown = WorldChange(1, (0, 1), (0, 1, 2))
    ready = threading.Thread(target=lambda: controls[2].await_change(1, (0, 1)))
    ready.start()
    while not horizon.is_ready(2, 1):
        time.sleep(1e-3)
    at = horizon.request_change(1, grown.after)
    ready.join(60)
    controls[2].enter_world(grown, at)
    joined = threading.Thread(target=_run, args=(controls[2], 10**9, at, found))
    joined.start()
    while not horizon.is_done(grown):
        horizon.extend()
        time.sleep(1e-3)
    horizon.count(grown.after)
    shrunk = WorldChange(2, grown.after, (0,))
    then = horizon.request_change(2, shrunk.after)
    while not horizon.is_done(shrunk):
        horizon.extend()
        time.sleep(1e-3)
    horizon.count(shrunk.after)
    horizon.stop()
    for thread in [*threads, joined]:
        thread.join(60)
        assert not thread.is_alive()
    assert found[0] == found[1] == [(at, (0, 1, 2)), (then, (0,))]
    assert found[2] == [(then, (0,))]


def test_ranks_that_have_left_hold_no_request_back(tmp_path: Path) -> None:
    page = ControlPage(tmp_path / "page", 2)
    horizon, controls = Horizon(page), [RankControl(page, number) for number in range(2)]
    horizon.raise_horizon(5)
    assert all(control.may_start(step) for control in controls for step in range(4))
    horizon.count((0,))
    assert horizon.request_checkpoint() == 5
    horizon.raise_horizon(9)
    assert all(controls[0].may_start(step) for step in range(4, 7))
    assert horizon.request_checkpoint() == 9, "rank 1 is not waited for"

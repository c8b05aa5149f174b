"""What a stop does in every phase of a run: the supervisor's side of the page, with ranks that only write to it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lockstep.launcher.control import stop_clock
from lockstep.launcher.control.horizon_control import HorizonControl
from lockstep.launcher.control.stop_clock import StopClock, default_stop_seconds
from lockstep.launcher.failures.interruptions import CancelledRunError, LateStopError, NothingToSaveError
from lockstep.launcher.runs.stop_requests import read_stop_reason, take_request, write_request
from lockstep.training.rank.control_page import ControlPage, RankControl


class Ranks:
    """Two ranks of a run, and the control of them."""

    def __init__(self, folder: Path, first: int = 0, stop_timeout: float | None = None) -> None:
        self.control = HorizonControl(folder, 2, None, stop_timeout, first)
        self.first = first
        page = ControlPage(Path(self.control.environment["LOCKSTEP_CONTROL"]), 2)
        self.ranks = [RankControl(page, rank) for rank in range(2)]

    def begin(self) -> None:
        for rank in self.ranks:
            rank.begin(self.first)
            rank.enter("training")
        self.control.tick()

    def do_steps(self, count: int) -> None:
        for step in range(self.first, self.first + count + 1):
            assert all(rank.may_start(step) for rank in self.ranks)
            self.control.tick()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    assert take_request(tmp_path) is None  # whatever was asked was taken


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["starting", "begun"])
def test_before_the_first_step_there_is_nothing_to_save(
    folder: Path, number: signal.Signals, when: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks = Ranks(folder)
    if when == "begun":  # it may be compiling for minutes
        ranks.begin()
    assert ranks.control.handle_signal(number)
    ended = ranks.control.interruption
    assert isinstance(ended, NothingToSaveError)
    assert ended.message == f"stopped ({number.name}) before the first step: there was nothing to save"
    assert (ended.exit_status, ended.outcome) == (128 + number, "stopped")
    assert not ranks.control.stopping
    assert read_stop_reason(folder) == number.name
    assert ranks.control.handle_signal(signal.SIGTERM)  # a second one changes nothing
    assert ranks.control.interruption is ended
    assert capsys.readouterr().err == ""  # nothing is promised


def test_a_resumed_run_that_has_done_no_step_yet_says_where_it_stands(folder: Path) -> None:
    ranks = Ranks(folder, first=7504)
    ranks.control.handle_signal(signal.SIGTERM)  # no rank has said anything yet: the page is empty
    assert ranks.control.interruption is not None
    assert ranks.control.interruption.message.endswith("another step: it stays at step 7,504")
    restarted = Ranks(folder)
    restarted.begin()
    restarted.do_steps(3)
    restarted.control.restart(7504)
    restarted.control.handle_signal(signal.SIGTERM)
    assert "it stays at step 7,504" in str(restarted.control.interruption)


def test_after_it_a_checkpoint_is_promised_where_the_ranks_will_be(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks = Ranks(folder, first=7504)
    ranks.begin()
    ranks.do_steps(1)
    assert ranks.control.handle_signal(signal.SIGTERM)
    assert ranks.control.interruption is None
    assert ranks.control.stopping
    said = capsys.readouterr().err
    assert said == (
        "stopping (SIGTERM): a checkpoint is written at step 7,507 at the latest, within 30 s;"
        " interrupt again to end at once\n"
    )
    assert [rank.may_start(7506) for rank in ranks.ranks] == [True, True]
    assert [rank.may_start(7507) for rank in ranks.ranks] == [False, False]
    assert ranks.control.handle_signal(signal.SIGTERM)
    assert not ranks.control.handle_signal(signal.SIGINT)  # that one ends everything


def test_a_stop_that_takes_too_long_ends_without_a_checkpoint(folder: Path) -> None:
    ranks = Ranks(folder, stop_timeout=0.05)
    ranks.begin()
    ranks.do_steps(1)
    ranks.control.stop("the job's time limit")
    ranks.control.tick()
    assert ranks.control.interruption is None
    time.sleep(0.06)
    ranks.control.tick()
    ended = ranks.control.interruption
    assert isinstance(ended, LateStopError)
    assert (ended.exit_status, ended.outcome) == (143, "failed")
    assert "(the job's time limit) took more than 0.05 s: it was ended without a checkpoint" in ended.message
    assert "--stop-timeout" in ended.hint


@pytest.mark.parametrize("when", ["starting", "begun"])
def test_to_cancel_means_at_once_whatever_comes_first(folder: Path, when: str) -> None:
    ranks = Ranks(folder)
    if when == "begun":
        ranks.begin()
        ranks.do_steps(2)
        ranks.control.stop("SIGTERM")
    write_request(folder, "cancel", "me")
    assert ranks.control.handle_signal(signal.SIGTERM)  # the request is older than the signal
    assert isinstance(ranks.control.interruption, CancelledRunError)
    assert str(ranks.control.interruption) == "cancelled (me)"
    assert ranks.control.interruption.outcome == "cancelled"


def test_the_default_goes_by_what_has_been_measured(folder: Path) -> None:
    assert default_stop_seconds(0, 0) == 30
    assert default_stop_seconds(0.05, 2) == 30
    assert default_stop_seconds(5, 20) == 3 * (15 + 20)
    ranks = Ranks(folder)
    ranks.control.note_longest_checkpoint(40.0)
    ranks.begin()
    ranks.do_steps(1)
    ranks.control.stop("x")
    assert ranks.control._clock is not None
    assert 120 <= ranks.control._clock.seconds < 130


def test_a_first_checkpoint_gets_more_once_it_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stop_clock.time, "monotonic", lambda: now[0])
    known, unknown = StopClock(30, may_save_longer=False), StopClock(30, may_save_longer=True)
    now[0] += 31
    assert known.is_over(saving=True)
    assert unknown.is_over(saving=False)
    assert not unknown.is_over(saving=True)
    now[0] += 300
    assert unknown.is_over(saving=True)


def test_evaluations_by_the_clock_are_requested_of_all_ranks_at_one_step(folder: Path) -> None:
    control = HorizonControl(folder, 2, evaluate_minutes=1e-9)
    page = ControlPage(Path(control.environment["LOCKSTEP_CONTROL"]), 2)
    ranks = [RankControl(page, rank) for rank in range(2)]
    seen: list[list[int]] = [[], []]
    for step in range(12):
        control.tick()
        for number, rank in enumerate(ranks):
            assert rank.may_start(step)
            seen[number] += [step] if rank.is_evaluation_due(step) else []
            assert not rank.is_checkpoint_due(step)
    assert seen[0] == seen[1]
    assert len(seen[0]) > 2
    control.close()

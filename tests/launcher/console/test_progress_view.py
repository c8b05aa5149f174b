from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.launcher.console.console import print_messages, transcribe_to
from lockstep.launcher.console.progress_view import ProgressView
from lockstep.launcher.console.run_progress import RunShape
from tests.helpers.launch import WATCHDOG
from tests.helpers.terminal import terminal

SHAPE = RunShape(steps=100, steps_per_epoch=50, batch_size=4)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.delenv("LOCKSTEP_PROGRESS_SECONDS")
    return Clock()


def _seconds(
    view: ProgressView, clock: Clock, count: int, step: float, phase: str, rate: float = 0.0
) -> float:
    """Let so many seconds pass, four looks in each."""
    for _ in range(4 * count):
        clock.now += 0.25
        step += rate / 4
        view.show(int(step), phase)
    return step


def test_what_starts_quickly_is_not_told_of(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    view = ProgressView(4, clock)
    view.waiting("reading data")
    clock.now = 4
    view.begin(SHAPE, 0)
    _seconds(view, clock, 4, 0, "starting")
    _seconds(view, clock, 4, 0, "training")
    _seconds(view, clock, 20, 1, "training", 1)
    assert capsys.readouterr().err == ""


def test_a_slow_start_is_told_soon_and_then_every_half_minute(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    view = ProgressView(4, clock)
    for clock.now in range(8):
        view.waiting("reading data")
    view.begin(SHAPE, 0)
    _seconds(view, clock, 37, 0, "starting")
    _seconds(view, clock, 6, 0, "training")
    _seconds(view, clock, 1, 1, "training")
    assert capsys.readouterr().err.splitlines() == [
        "reading data: 5 s",
        "starting 4 ranks: 5 s",
        "starting 4 ranks: 35 s",
        "first step: 5 s",
        "first step done",
    ]


def test_a_line_is_shown_every_half_minute_within_an_epoch(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    view = ProgressView(1, clock)
    view.begin(SHAPE, 10)
    step = _seconds(view, clock, 65, 11, "training", 0.5)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("epoch 1/2  step 26/100 (26 %)  2.0 samples/s  0:02:")
    assert first.endswith(" left")
    assert second.startswith("epoch 1/2  step 41/100 (41 %)  2.0 samples/s  0:01:5")
    view.take({"event": "step", "step": 43, "train/loss": 0.5, "samples_per_second": 7.0})
    _seconds(view, clock, 30, step, "evaluation")
    (third,) = capsys.readouterr().err.splitlines()
    assert third.startswith("epoch 1/2  step 43/100 (43 %)  evaluating  loss 0.5000  7.0 samples/s  ")


def test_nothing_is_said_of_steps_that_a_restart_has_taken_back(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    view = ProgressView(2, clock)
    view.begin(SHAPE, 0)
    view.take({"event": "step", "step": 60, "train/loss": 0.5})
    _seconds(view, clock, 20, 60, "training", 1)
    view.restart(40)
    _seconds(view, clock, 1, 0, "starting")
    _seconds(view, clock, 31, 41, "training", 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("epoch 2/2  step 7")
    assert "loss" not in line


@pytest.mark.parametrize(("value", "lines"), [("0", 0), ("10", 2), ("soon", 0)])
def test_the_time_between_two_lines_can_be_chosen(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, value: str, lines: int
) -> None:
    monkeypatch.setenv("LOCKSTEP_PROGRESS_SECONDS", value)
    view = ProgressView(2, clock)
    view.begin(SHAPE, 0)
    _seconds(view, clock, 25, 1, "training", 1)
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_what_is_printed_is_kept_in_the_attempts_folder(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    transcribe_to(tmp_path / "launch.log")
    view = ProgressView(2, clock)
    view.begin(SHAPE, 0)
    print_messages(["a plan"])
    _seconds(view, clock, 31, 1, "training", 1)
    transcribe_to(tmp_path / "nowhere" / "launch.log")  # it cannot be written
    print_messages(["after it"])
    transcribe_to(None)
    err = capsys.readouterr().err
    assert (tmp_path / "launch.log").read_text() + "after it\n" == err
    assert err.startswith("a plan\nepoch 1/2  step 3")


DRAWING = """
import time
from lockstep.launcher.console.console import print_messages, transcribe_to
from lockstep.launcher.console.progress_view import ProgressView
from lockstep.launcher.console.run_progress import RunShape
from pathlib import Path
now = 0.0
transcribe_to(Path("launch.log"))
with ProgressView(3, lambda: now) as view:
    view.begin(RunShape(100, 50, 4), 0)
    for step in range(80):
        now += 0.5
        view.show(step, "training" if step else "starting")
    print_messages(["a line that stays"])
    now += 0.5
    view.show(80, "training")
print("end")
"""


def test_a_terminal_has_a_bar_that_leaves_no_trace(tmp_path: Path) -> None:
    command = ["sh", "-c", 'cd "$0" && exec "$@"', tmp_path, sys.executable, "-P", "-c", DRAWING]
    with terminal(
        command, 24, 60, {"LOCKSTEP_PROGRESS_SECONDS": "30", "PYTHONIOENCODING": "utf-8"}
    ) as screen:
        assert screen.end() == 0, screen.shown
    drawn = screen.shown.decode().split("\r\x1b[2K")
    assert "starting 3 ranks …" in drawn
    assert any(
        part.startswith("epoch 2/2  8.0 samples/s  ━━") and "─  79/100  0:00:10" in part for part in drawn
    )
    assert max(map(len, drawn)) < 60
    assert "a line that stays\r\n" in drawn
    assert drawn[-1] == "end\r\n"
    kept = (tmp_path / "launch.log").read_text().splitlines()
    assert [line.split("  ")[0] for line in kept] == ["epoch 2/2", "a line that stays"]


def test_a_terminal_that_cannot_overwrite_a_line_has_lines(tmp_path: Path) -> None:
    environment = {**os.environ, "TERM": "dumb", "LOCKSTEP_PROGRESS_SECONDS": "30"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", DRAWING],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=True,
    )
    assert "\x1b" not in done.stderr
    assert (tmp_path / "launch.log").read_text() == done.stderr

"""Faults of ``launch train``: the right culprit and status, no process left, and checkpoints to go on from."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lockstep.launcher.runs.stop_requests import is_stopping
from lockstep.training.checkpoint.layout import list_checkpoints
from lockstep.training.checkpoint.manifest import newest_intact
from tests.helpers.fault_launch import HANG_TIMEOUT, WORLD, FaultyLaunch, cases, check_outcome, cleaned_up
from tests.helpers.launch import Launch, outcome_of, run_folder
from tests.helpers.paths import PROGRAMS
from tests.helpers.run_records import DIGESTS

SEED = 7
MOMENTS = ("start", "middle", "evaluation", "checkpoint")
EXPECTED = {  # fault -> exit status, words of the card
    "raise": (1, "ValueError: my own error"),
    "exit-0": (4, "ended with status 0 before its work was done"),
    "exit-7": (4, "sys.exit(7)"),
    "kill": (4, "was killed by SIGKILL"),
    "abort": (4, "was killed by SIGABRT"),
    "memory": (7, "can't allocate memory"),
    "loader": (1, "DataLoader"),
    "stop": (5, "hangs: it is stopped (SIGSTOP or the like)"),
    "sleep": (5, "hangs: it makes no progress at"),
    "skip": (5, "hangs: it waits in"),
}
TABLE = [
    (fault, rank, moment)
    for fault in EXPECTED
    for rank in range(WORLD)
    for moment in MOMENTS
    if (fault, moment) != ("loader", "start")  # it has no worker yet
]
SAMPLE = random.Random(SEED).sample(TABLE, 1)
SAME = (*DIGESTS, "ranks")
Start = Callable[..., FaultyLaunch]
_whole: dict[str, dict[str, Any]] = {}
"""How a run without a fault ends, by its data; trained once."""


def _arguments(data: str) -> list[str]:
    workers = (
        ["data.use=" + f"{PROGRAMS / 'fault_model.py'}:rows", "data.workers=1"] if data == "rows" else []
    )
    model = f"model.use={PROGRAMS / 'fault_model.py'}:model"
    return [model, *workers, "train.epochs=3", "--cpu", str(WORLD)]  # the faults come in the second


@pytest.fixture
def start(own: Path, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(fault: str, rank: int, moment: str, **more: Any) -> FaultyLaunch:
            data = "rows" if fault == "loader" else "tensors"
            options = [*_arguments(data), "--name", "faulty", "--hang-timeout", HANG_TIMEOUT]
            arguments = ["train", str(own / "own.yaml"), *options]
            planted = {"FAULT": f"{fault} {rank} {moment}"}
            return stack.enter_context(cleaned_up(FaultyLaunch(arguments, tmp_path, env=planted, **more)))

        yield started


def _check_checkpoints() -> None:
    """Each is whole: a fault may come before the first one is, and none may come of it."""
    folder = run_folder("faulty") / "checkpoints"
    for _ in list_checkpoints(folder)[:1]:
        assert newest_intact(folder)[1] == []


def _check_resumed(launch: Launch, own: Path, data: str) -> None:
    """It goes on to the very end that a run without a fault has."""
    resumed = launch("resume", "faulty", "--cpu", str(WORLD))
    assert resumed.status == 0, resumed.err
    if data not in _whole:
        whole = launch("train", str(own / "own.yaml"), *_arguments(data), "--name", "whole")
        assert whole.status == 0, whole.err
        _whole[data] = outcome_of("whole")
    assert {key: outcome_of("faulty")[key] for key in SAME} == {key: _whole[data][key] for key in SAME}


@pytest.mark.parametrize(("fault", "rank", "moment"), cases(TABLE, SAMPLE))
def test_the_culprit_is_named_nothing_is_left_and_checkpoints_are_intact(
    start: Start, launch: Launch, own: Path, fault: str, rank: int, moment: str
) -> None:
    status, words = EXPECTED[fault]
    start(fault, rank, moment).check_card(rank, status, words)
    check_outcome("faulty", "failed", status)
    _check_checkpoints()
    if rank == WORLD // 2:  # the culprit's number makes no difference to what is on the disk
        _check_resumed(launch, own, "rows" if fault == "loader" else "tensors")


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", ["supervisor", "agent"])
def test_whoever_of_supervisor_and_agent_is_left_ends_everything(
    start: Start, launch: Launch, own: Path, victim: str, moment: str
) -> None:
    run = start("wait", 1, moment)
    run.wait_until_ready()
    time.sleep(1.5)  # the supervisor looks once a second
    if victim == "supervisor":
        run.process.kill()
        run.process.communicate()
    else:
        run.agent().kill()
        status, err = run.end()
        assert status == 4
        assert "the agent, which starts the ranks, was killed by SIGKILL" in err
    run.check_nothing_is_left()
    _check_checkpoints()
    _check_resumed(launch, own, "tensors")


@pytest.mark.exhaustive
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_closed_terminal_ends_in_a_checkpoint(start: Start, launch: Launch, own: Path, moment: str) -> None:
    master, slave = pty.openpty()
    run = start("pause", 1, moment, stdin=slave, stdout=slave, stderr=slave, preexec_fn=lambda: _own(slave))
    os.close(slave)
    run.wait_until_ready()
    os.close(master)  # the kernel hangs up
    folder = run_folder("faulty")
    while not is_stopping(folder) and run.process.poll() is None:
        time.sleep(0.05)
    run.resume()
    assert run.end()[0] == 75
    run.check_nothing_is_left()
    check_outcome("faulty", "stopped", 75)
    _check_checkpoints()
    _check_resumed(launch, own, "tensors")


@pytest.mark.exhaustive
@pytest.mark.parametrize(("command", "moment"), [("eval", "each-evaluation"), ("check", "first")])
def test_an_evaluation_and_a_check_that_hang_are_ended(
    launch: Launch, own: Path, tmp_path: Path, command: str, moment: str
) -> None:
    config = [str(own / "own.yaml"), *_arguments("tensors")]
    if command == "eval":
        assert launch("train", *config, "--name", "faulty").status == 0
    what = ["faulty", "--cpu", str(WORLD)] if command == "eval" else config
    planted = {"FAULT": f"stop 1 {moment}"}
    with cleaned_up(
        FaultyLaunch([command, *what, "--hang-timeout", HANG_TIMEOUT], tmp_path, env=planted)
    ) as run:
        run.check_card(1, 5, "hangs: it is stopped (SIGSTOP or the like)")


def _own(terminal: int) -> None:
    """Make it the terminal of this new session."""
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

"""Stop is a message: a signal or ``launch stop`` ends all ranks at one step, with a checkpoint and status 75."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from lockstep.training.checkpoint.manifest import newest_intact, read_state
from tests.helpers.launch import WATCHDOG, Launch, outcome_of, run_folder
from tests.helpers.run_records import DIGESTS
from tests.helpers.warm_launch import start_launch

SETTINGS = [
    "train.epochs=60",
    "data.args={n: 307, m: 101}",
    "checkpoint.every_epochs=20",
    "log.every_steps=5",
]
STEPS = 600
SAME = (*DIGESTS, "metrics", "steps")


def _start(own: Path, name: str, *more: str) -> subprocess.Popen[str]:
    arguments = ("train", "own.yaml", *SETTINGS, *more, "--cpu", "2", "--name", name)
    return start_launch(*arguments, cwd=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _wait_for(name: str, words: str) -> None:
    deadline = time.monotonic() + WATCHDOG
    record = run_folder(name) / "metrics.jsonl"
    while not (record.exists() and words in record.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _whole(launch: Launch, own: Path) -> dict[str, Any]:
    result = launch("train", "own.yaml", *SETTINGS, "--cpu", "2", "--name", "whole", "--json", cwd=own)
    assert result.status == 0, result.err
    return result.document


def _check_stopped(launch: Launch, own: Path, name: str, whole: dict[str, Any]) -> int:
    """A whole checkpoint where it stopped, and from there the end that it would have had."""
    outcome = outcome_of(name)
    assert (outcome["status"], outcome["exit_code"]) == ("stopped", 75)
    state = read_state(newest_intact(run_folder(name) / "checkpoints")[0])
    assert state["step"] == outcome["steps"]
    resumed = launch("resume", name, "--cpu", "2", "--json", cwd=own)
    assert resumed.status == 0, resumed.err
    assert {key: resumed.document[key] for key in SAME} == {key: whole[key] for key in SAME}
    return int(state["step"])


@pytest.mark.parametrize("sign", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.exhaustive)])
def test_a_signal_ends_it_at_a_step_with_a_checkpoint(
    launch: Launch, own: Path, sign: signal.Signals
) -> None:
    whole = _whole(launch, own)
    process = _start(own, "stopped")
    _wait_for("stopped", '"step": 10,')
    process.send_signal(sign)
    _, err = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 75, err
    assert f"stopping ({sign.name})" in err
    assert "`launch resume stopped`" in err
    assert 10 <= _check_stopped(launch, own, "stopped", whole) < STEPS


@pytest.mark.exhaustive
@pytest.mark.timeout(1200)
def test_sigterm_at_twenty_random_moments(launch: Launch, own: Path) -> None:
    whole, draw, stopped = _whole(launch, own), random.Random(20), []
    for number in range(20):
        process = _start(own, f"stopped-{number}")
        _wait_for(f"stopped-{number}", '"start"')
        time.sleep(draw.uniform(0, 0.8))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=WATCHDOG)
        if process.returncode != 0:  # it may have been faster
            assert process.returncode == 75, err
            stopped.append(_check_stopped(launch, own, f"stopped-{number}", whole))
    assert len(set(stopped)) > 5


def test_launch_stop_and_checkpoint_reach_a_running_training(launch: Launch, own: Path) -> None:
    process = _start(own, "asked", "train.epochs=100000", "checkpoint.every_epochs=null")
    _wait_for("asked", '"epoch"')
    asked = launch("checkpoint", "asked", cwd=own)
    assert asked.status == 0, asked.err
    assert "asked has a checkpoint of step" in asked.err
    told = launch("stop", "asked", cwd=own)
    assert told.status == 0, told.err
    assert "resume it with `launch resume asked`" in told.err
    process.communicate(timeout=WATCHDOG)
    assert process.returncode == 75
    assert len(list((run_folder("asked") / "checkpoints").glob("step_*"))) >= 2


def test_a_second_interrupt_ends_it_at_once(own: Path) -> None:
    (own / "own.py").write_text(
        (own / "own.py").read_text()
        + "\nimport itertools, pathlib, time\n"
        + "calls = itertools.count()\n"
        + "def stuck(output, target):\n"
        + "    if next(calls) > 30:\n"
        + "        pathlib.Path('stuck').touch()\n"
        + "        time.sleep(3600)\n"
        + "    return nn.functional.cross_entropy(output, target, reduction='none')\n"
    )
    process = _start(own, "twice", "loss.use=./own.py:stuck")
    deadline = time.monotonic() + WATCHDOG
    while not (own / "stuck").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    while "stopping" not in (process.stderr.readline() or "stopping"):
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=WATCHDOG)
    assert process.returncode == 130


WAITING = """
import time
from pathlib import Path

def waiting(output, target):
    here = Path(__file__).parent
    if torch.is_inference_mode_enabled():
        (here / "evaluating").touch()
        while not (here / "go").exists():
            time.sleep(0.01)
    return nn.functional.cross_entropy(output, target, reduction="none")
"""
LONG = ("data.args={n: 307, m: 1009}", "train.epochs=3", "loss.use=./own.py:waiting")


@pytest.mark.exhaustive
def test_an_evaluation_that_a_stop_cuts_short_is_made_up_for(launch: Launch, own: Path) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + WAITING)
    process = _start(own, "stopped", *LONG)
    deadline = time.monotonic() + WATCHDOG
    while not (own / "evaluating").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    while "stopping" not in (line := process.stderr.readline()):
        assert line
    (own / "go").touch()
    process.communicate(timeout=WATCHDOG)
    assert process.returncode == 75
    assert _epochs("stopped") == []
    whole = launch("train", "own.yaml", *SETTINGS, *LONG, "--cpu", "2", "--name", "whole", "--json", cwd=own)
    assert _check_stopped(launch, own, "stopped", whole.document) == STEPS // 60
    assert _epochs("stopped") == _epochs("whole")


def _epochs(name: str) -> list[list[Any]]:
    events = map(json.loads, (run_folder(name) / "metrics.jsonl").read_text().splitlines())
    keys = ("epoch", "step", "train/loss", "val/loss", "val/count")
    return [[event[key] for key in keys] for event in events if event["event"] == "epoch"]


def test_checkpoints_by_the_clock(launch: Launch, own: Path) -> None:
    process = _start(
        own, "clock", "train.epochs=100000", "checkpoint.every_epochs=null", "checkpoint.every_minutes=0.01"
    )
    _wait_for("clock", '"checkpoint"')
    process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=WATCHDOG)
    assert process.returncode == 75
    refused = launch("train", "own.yaml", "checkpoint.every_minutes=0", "--cpu", "1", cwd=own)
    assert refused.status == 2

"""Cancelling and asking, with real processes as launchers and as their children."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest

from lockstep.data.common.errors import LockstepError, MachineError, UsageError
from lockstep.launcher.commands import stop as ask
from lockstep.launcher.process.lock_owner import current_owner, write_owner
from lockstep.launcher.runs.run_status import read_status
from lockstep.launcher.runs.slurm_status import QueueSnapshot
from lockstep.launcher.slurm import slurm_client
from lockstep.launcher.slurm.job_log import note_job
from lockstep.launcher.slurm.slurm_client import QueuedJob, SlurmError
from lockstep.launcher.sweep.sweep_folder import Sweep, write_sweep
from tests.helpers.launch import WATCHDOG, Launch, run_folder
from tests.helpers.run_folders import LOCK_HOLDER, locked_by_another, make_run, step_event
from tests.helpers.warm_launch import start_launch

DEAF = LOCK_HOLDER.replace(
    "import sys\n", "import signal, sys\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
)
WITH_CHILD = DEAF.replace(
    "print(", "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)\n    print("
)
TAKER = """
import json, sys, time
from pathlib import Path
from lockstep.launcher.runs.run_lock import hold_run_lock
from lockstep.launcher.runs.stop_requests import take_request
folder = Path(sys.argv[1])
with hold_run_lock(folder):
    print("held", flush=True)
    while True:
        request = take_request(folder)
        if request is not None and request.what == "checkpoint":
            (folder / "checkpoints" / "step_00000012").mkdir(parents=True)
        if request is not None and request.what == "stop":
            (folder / "outcome.json").write_text(json.dumps({"status": "stopped", "steps": 12, "epochs": 0}))
            break
        time.sleep(0.01)
"""


def test_a_launcher_that_obeys_is_ended_by_sigterm(capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run("first", step_event(5))
    with locked_by_another(folder) as process:
        assert ask.cancel_run("first", 60) == 0
        assert process.wait(timeout=WATCHDOG) == -signal.SIGTERM
    assert capsys.readouterr().err == f"first was cancelled: process {process.pid} was ended by SIGTERM\n"
    assert read_status(folder).status == "cancelled"


def test_one_that_does_not_is_killed_after_the_grace_with_what_it_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "_GONE_SECONDS", 0.3)
    with locked_by_another(make_run("first"), WITH_CHILD) as process:
        (child,) = psutil.Process(process.pid).children()
        assert ask.cancel_run("first", 0.1) == 0
        assert process.wait(timeout=WATCHDOG) == -signal.SIGKILL
    assert "ended by SIGKILL, after 0.1 s of grace" in capsys.readouterr().err
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_what_is_not_running_need_not_be_ended(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("first", outcome={"status": "done"})
    assert ask.cancel_run("first", 1) == ask.stop_run("first", 1) == 0
    assert capsys.readouterr().err == "first is not running: it is done\n" * 2
    with pytest.raises(UsageError, match="not running: it is done"):
        ask.checkpoint_run("first", 1)


@pytest.mark.parametrize("other", ["start", "boot", "nothing"])
def test_only_a_process_that_is_known_to_be_the_holder_is_signalled(
    monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """The record names a process of another machine, or one whose number was given out again: this very test."""
    monkeypatch.setattr(ask, "_TOLD_SECONDS", 0.1)
    folder = make_run("first")
    with locked_by_another(folder) as process:
        descriptor = os.open(folder / ".lock", os.O_RDWR)
        if other == "nothing":
            os.truncate(descriptor, 0)
        else:
            changed = {"start": {"start": 1}, "boot": {"boot": "another", "host": "node7"}}[other]
            write_owner(descriptor, replace(current_owner(), **changed))
        os.close(descriptor)
        with pytest.raises(MachineError) as caught:
            ask.cancel_run("first", 1)
        assert process.poll() is None
    assert ("does not say" in caught.value.message) == (other == "nothing")
    assert ("on node7" in caught.value.message) == ("on node7" in caught.value.hint) == (other == "boot")


def test_stop_and_checkpoint_wait_for_what_they_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with locked_by_another(make_run("first"), TAKER) as process:
        assert ask.checkpoint_run("first", WATCHDOG) == 0
        assert ask.stop_run("first", WATCHDOG) == 0
        process.wait(timeout=WATCHDOG)
    assert capsys.readouterr().err == (
        "first has a checkpoint of step 12\nfirst is stopped, after 12 steps; resume it with `launch resume first`\n"
    )


def test_what_does_not_come_in_time_is_said_and_the_wish_stays() -> None:
    folder = make_run("first")
    with locked_by_another(folder):
        with pytest.raises(
            LockstepError, match=r"has not written a checkpoint within 0\.1 s; .* not noticed"
        ):
            ask.checkpoint_run("first", 0.1)
        with pytest.raises(LockstepError, match=r"has not ended within 0\.1 s") as caught:
            ask.stop_run("first", 0.1)
        assert "launch cancel first" in caught.value.hint
        assert json.loads((folder / "request.json").read_text())["what"] == "stop"
        assert read_status(folder).status == "stopping"


def test_a_checkpoint_of_a_sweep_is_one_of_each_point_that_trains(capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(Sweep(make_run("grid", kind="sweep"), "own", "own.yaml", Path(), [], {}, [{}, {}, {}]))
    with pytest.raises(UsageError, match="no point of the sweep grid is training now"):
        ask.checkpoint_run("grid", WATCHDOG)
    make_run("grid-000", outcome={"status": "done"})
    with locked_by_another(make_run("grid-001"), TAKER), locked_by_another(make_run("grid-002"), TAKER):
        assert ask.checkpoint_run("grid", WATCHDOG) == 0
    assert capsys.readouterr().err == "".join(
        f"grid-00{point} has a checkpoint of step 12\n" for point in (1, 2)
    )


@pytest.mark.parametrize(
    ("state", "outcome", "words"),
    [
        ("PENDING", None, "first is not running: it is queued"),
        ("PENDING", {"status": "stopped"}, "first is not running: it is queued"),
        ("RUNNING", None, "first is not training yet, or not any more"),
        ("CANCELLED", None, "first is not running: it is stopped"),
    ],
)
def test_what_slurm_has_cannot_write_a_checkpoint_yet_and_is_called_as_launch_status_does(
    state: str, outcome: dict[str, Any] | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_run("first", outcome=outcome)
    (folder / "job.json").write_text("{}")
    note_job(folder, "submitted", "7")
    answer = QueueSnapshot({"7": QueuedJob("7", state, "None", "", "", "", 0, "first")})
    monkeypatch.setattr(ask, "query_jobs", lambda _: answer)
    with pytest.raises(UsageError) as refused:
        ask.checkpoint_run("first", 1)
    assert refused.value.message == words
    assert not (folder / "request.json").exists()


def test_a_wish_to_stop_that_was_left_is_told_where_slurm_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run("first")
    (folder / "job.json").write_text("{}")
    note_job(folder, "started", "7")
    monkeypatch.setattr(slurm_client, "jobs", _silent)
    with pytest.raises(MachineError) as running:
        ask.stop_run("first", 1)
    assert json.loads((folder / "request.json").read_text())["what"] == "stop"
    assert running.value.message.endswith("no answer in 5 s; what runs was asked to stop all the same")
    waiting = make_run("second")
    (waiting / "job.json").write_text("{}")
    note_job(waiting, "submitted", "8")
    with pytest.raises(MachineError) as queued:
        ask.stop_run("second", 1)
    assert not (waiting / "request.json").exists()
    assert "all the same" not in queued.value.message


def _silent(*_: object) -> NoReturn:
    raise SlurmError("squeue\nno answer in 5 s", "")


def test_a_run_that_ends_instead_has_no_checkpoint() -> None:
    code = TAKER.replace('(folder / "checkpoints" / "step_00000012").mkdir(parents=True)', "break")
    with (
        locked_by_another(make_run("first"), code),
        pytest.raises(LockstepError, match="without another checkpoint"),
    ):
        ask.checkpoint_run("first", WATCHDOG)


SLOW = """
import time
class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(7, 2)
        print("built", flush=True)
    def forward(self, x):
        time.sleep(0.005)
        return self.layer(x)
def slow():
    return Slow()
"""


def test_a_training_is_seen_followed_and_cancelled(launch: Launch, own: Path) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + SLOW)
    asked = ("train", "own.yaml", "model.use=./own.py:slow", "train.epochs=500", "--name", "slow")
    training = start_launch(
        *asked, "--cpu", "2", cwd=own, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert training.stderr
    folder, deadline = run_folder("slow"), time.monotonic() + WATCHDOG
    while not ((folder / "metrics.jsonl").exists() and '"epoch"' in (folder / "metrics.jsonl").read_text()):
        assert training.poll() is None, training.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    following = start_launch("logs", "slow", "-f", stdout=subprocess.PIPE, text=True)
    document = launch("status", "slow", "--json").document
    assert (document["status"], document["owner"]["pid"]) == ("running", training.pid)
    assert document["epoch"] >= 1
    assert document["step"] >= 33
    assert 0 <= document["metrics"]["val/accuracy"] <= 1
    family = psutil.Process(training.pid).children(recursive=True)
    result = launch("cancel", "slow")
    assert (result.status, result.out) == (0, "")
    assert "slow was cancelled" in result.err
    assert training.wait(timeout=WATCHDOG) != 0
    assert [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    assert "  0-1 | built" in following.communicate(timeout=WATCHDOG)[0].splitlines()
    after = launch("status", "slow", "--json").document
    assert after["status"] == "cancelled"
    assert (after["resumable"], after["step"] >= document["step"]) == (True, True)
    training.stderr.close()


def test_a_submitted_run_that_has_stopped_says_what_slurm_will_call_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outcome = {"status": "stopped", "exit_code": 75, "steps": 12}
    for kind, said in (("job", True), ("spec", False)):
        ask._say_stopped(make_run(kind, outcome=outcome, kind=kind))
        words = "SLURM will call its job FAILED, as it does with every exit status but 0; this is 75"
        assert (words in capsys.readouterr().err.splitlines()) is said

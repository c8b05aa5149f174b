"""A run has one launcher; one that was given up notices, and a folder that is away for a moment is no reason to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lockstep.data.common.errors import MachineError, RankLostError, UsageError
from lockstep.launcher.runs import run_lock
from lockstep.launcher.runs.run_folder import LOCK
from lockstep.launcher.runs.run_lock import hold_run_lock

HOLDER = """
import sys, time
from pathlib import Path
from lockstep.data.common.errors import LockstepError
from lockstep.launcher.runs.run_lock import hold_run_lock
with hold_run_lock(Path(sys.argv[1])) as lock:
    print("held", flush=True)
    sys.stdin.readline()
    try:
        lock.check()
    except LockstepError as error:
        print(type(error).__name__, error.message, flush=True)
    else:
        print("still mine", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (folder := tmp_path / "w").mkdir()
    return folder


@contextmanager
def _holder(run: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", "-c", HOLDER, run]
    env = {**os.environ, **environment}
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as held:
        assert held.stdout is not None
        assert held.stdout.readline() == "held\n"
        yield held
        held.kill()


def _asked(holder: subprocess.Popen[str]) -> str:
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.write("\n")
    holder.stdin.flush()
    return holder.stdout.readline()


def test_a_second_launcher_is_told_who_has_the_run(run: Path) -> None:
    with _holder(run) as holder:
        with pytest.raises(UsageError, match=f"process {holder.pid} .*trains this run"), hold_run_lock(run):
            pass
        assert _asked(holder) == "still mine\n"
    with hold_run_lock(run) as lock:
        lock.check()
        assert json.loads((run / LOCK).read_text())["pid"] == os.getpid()
    assert not list(run.glob(f"{LOCK}.*"))


@pytest.mark.parametrize(
    ("theirs", "mine", "taken"),
    [(0, 1, True), (1, 1, False), (2, 1, False), (9, 10, True), (10, 9, False)],
)
def test_only_a_later_start_of_the_same_job_takes_the_run_over(
    run: Path, monkeypatch: pytest.MonkeyPatch, theirs: int, mine: int, *, taken: bool
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(mine))
    with _holder(run, SLURM_JOB_ID="7", SLURM_RESTART_COUNT=str(theirs)) as holder:
        if not taken:
            with pytest.raises(UsageError, match="trains this run"), hold_run_lock(run):
                pass
            assert _asked(holder) == "still mine\n"
            return
        with hold_run_lock(run) as lock:
            lock.check()
            said = f"RankLostError this attempt was given up: process {os.getpid()}, in SLURM job 7"
            assert _asked(holder).startswith(said)


def test_a_launcher_whose_lock_was_replaced_notices_at_a_tick(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hold_run_lock(run) as lock:
        (run / "other").write_text("")
        (run / "other").replace(run / LOCK)
        lock.tick()  # within the seconds between two looks
        monkeypatch.setattr(run_lock, "_LOOK_SECONDS", -1.0)
        with pytest.raises(RankLostError, match="this attempt was given up"):
            lock.tick()
        (run / LOCK).unlink()
        with pytest.raises(RankLostError, match="this attempt was given up"):
            lock.check()


def test_a_folder_that_is_away_for_a_moment_is_waited_for(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "_LOOK_SECONDS", -1.0)
    away, waited = run.with_name("away"), []

    def sleep(_: float) -> None:
        waited.append(1)
        if len(waited) == 3:
            away.rename(run)

    with hold_run_lock(run) as lock:
        run.rename(away)
        lock.tick()
        monkeypatch.setattr("time.sleep", sleep)
        lock.check()
        assert len(waited) == 3
        lock.tick()
        run.rename(away)
        lock.tick()
        monkeypatch.setattr(run_lock, "UNREADABLE_SECONDS", -1.0)
        with pytest.raises(MachineError, match=r"the run folder has been out of reach .*: .*: No such file"):
            lock.tick()

"""Processes that are forked from a warm one are, from inside and outside, what fresh ones are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.launch import LAUNCH, WATCHDOG, outcome_of, run_command, run_folder
from tests.helpers.run_records import DIGESTS
from tests.helpers.warm_launch import SERVER, run_launch, start_launch

PROBE = """
import json, os, signal, sys, threading
from pathlib import Path

def model():
    umask = os.umask(0)
    os.umask(umask)
    words = Path("/proc/self/environ").read_bytes().split(bytes(1))
    found = {
        "path": sys.path,
        "arguments": [sys.argv, sys.orig_argv, Path("/proc/self/cmdline").read_bytes().decode().rstrip(chr(0))],
        "environment": dict(os.environ),
        "told": sorted(word.decode().partition("=")[0] for word in words if word),
        "cwd": os.getcwd(),
        "umask": umask,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": [thread.name for thread in threading.enumerate()],
        "handlers": [str(signal.getsignal(number)).split(" at ")[0] for number in sorted(signal.valid_signals())],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "main": sys.modules["__main__"].__name__,
        "hash": hash("lockstep"),
        "group": os.getpgid(0) == os.getsid(0) == os.getpid(),
    }
    Path("found.json").write_text(json.dumps(found))
    print("a word", flush=True)
    return nn.Linear(7, 2)
"""
OF_ONE_RUN = ("MASTER_PORT", "LOCKSTEP_", "TORCHELASTIC_", "PYTEST_", "GROUP_WORLD")
"""What differs from run to run."""


def _probed(own: Path, name: str, *, fresh: bool) -> dict[str, Any]:
    """Train, fresh or forked; what a rank saw, and what the run left."""
    asked = (
        "train",
        "own.yaml",
        "model={use: './own.py:model'}",
        "train.max_steps=3",
        "--cpu",
        "1",
        "--name",
        name,
    )
    done = (
        run_command([*LAUNCH, *asked], cwd=own, env=dict(os.environ))
        if fresh
        else run_launch(*asked, cwd=own)
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((own / "found.json").read_text())
    found["environment"] = {
        key: value for key, value in found["environment"].items() if not key.startswith(OF_ONE_RUN)
    }
    outcome = outcome_of(name)
    log = (run_folder(name) / "attempt-1" / "rank-0.log").read_text()
    return found | {
        "outcome": [outcome[key] for key in DIGESTS],
        "printed": done.stderr.replace(name, "NAME"),
        "log": log,
    }


def _need_forks() -> None:
    """A fresh start would be compared with itself."""
    if os.environ.get("LOCKSTEP_TEST_START") == "fresh":
        pytest.skip("LOCKSTEP_TEST_START=fresh: nothing is forked")
    assert SERVER.may_fork(os.environ)


def test_a_rank_cannot_tell_a_fork_from_a_fresh_start(own: Path) -> None:
    _need_forks()
    (own / "own.py").write_text((own / "own.py").read_text() + PROBE)
    fresh, forked = _probed(own, "fresh", fresh=True), _probed(own, "forked", fresh=False)
    assert {key: forked[key] for key in fresh} == fresh


def test_a_launch_that_is_forked_is_seen_and_ends_as_a_fresh_one(own: Path) -> None:
    _need_forks()
    process = start_launch(
        "status", "--watch", cwd=own, stdout=subprocess.PIPE, text=True, env={**os.environ, "ODD": "1"}
    )
    assert process.stdout is not None
    process.stdout.readline()
    seen = psutil.Process(process.pid)
    assert [*filter(None, seen.cmdline())] == [*LAUNCH, "status", "--watch"]
    assert seen.environ()["ODD"] == "1"
    assert seen.cwd() == str(own)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    assert process.wait(WATCHDOG) == -signal.SIGKILL
    process.communicate()
    assert run_launch("stat", cwd=own).returncode == 2


@pytest.mark.parametrize("name", ["PYTHONPATH", "OMP_NUM_THREADS", "LD_PRELOAD", "PYTHONHASHSEED"])
def test_what_is_read_at_a_start_is_not_given_to_a_fork(name: str) -> None:
    _need_forks()
    assert not SERVER.may_fork({**os.environ, name: "1"})

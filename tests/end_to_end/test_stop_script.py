"""Ending a script: SIGTERM to its ranks, a grace, SIGKILL; its own exit status; at once where that is wanted."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import subprocess
import termios
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.launch import LAUNCH, WATCHDOG, Launch, outcome_of

SCRIPT = """
import os, signal, subprocess, sys, time
from pathlib import Path
here, rank = Path(sys.argv[1]), os.environ["RANK"]
how = sys.argv[2].split(",")[int(rank)]
child = subprocess.Popen(["sleep", "600"], start_new_session=True)

def asked(number, frame):
    with (here / f"asked-{rank}").open("a") as file:
        file.write(f"{number} {child.poll()}\\n")
    if how != "deaf":
        sys.exit(int(how))

if how != "default":
    signal.signal(signal.SIGTERM, asked)
(here / f"ready-{rank}").write_text(str(child.pid))
while True:
    time.sleep(0.05)
"""


class Started:
    """``launch run`` of two ranks, each of which does at SIGTERM what it is told."""

    def __init__(self, here: Path, how: str, *options: str, **more: Any) -> None:
        self._here = here
        script = here / "asked.py"
        script.write_text(SCRIPT)
        arguments = ["run", "--cpu", "2", "--name", "asked", *options, str(script), str(here), how]
        self.process = subprocess.Popen([*LAUNCH, *arguments], stderr=subprocess.PIPE, text=True, **more)
        deadline = time.monotonic() + WATCHDOG
        ready = [here / f"ready-{rank}" for rank in range(2)]
        while not all(path.exists() and path.read_text() for path in ready):
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def asked(self, rank: int) -> list[str]:
        path = self._here / f"asked-{rank}"
        return path.read_text().splitlines() if path.exists() else []

    def end(self) -> tuple[int, str, dict[str, Any]]:
        """Its status, its words and its outcome; nothing of it is left."""
        _, err = self.process.communicate(timeout=WATCHDOG)
        _, alive = psutil.wait_procs(self.family, timeout=20)
        assert [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
        outcome = outcome_of("asked")
        return self.process.returncode, err, outcome


@pytest.mark.parametrize(
    ("how", "number", "status"),
    [
        ("default,default", signal.SIGINT, 130),
        pytest.param("default,default", signal.SIGHUP, 129, marks=pytest.mark.exhaustive),
        pytest.param("0,0", signal.SIGTERM, 75, marks=pytest.mark.exhaustive),
        ("85,default", signal.SIGUSR1, 85),
        pytest.param("0,85", signal.SIGTERM, 75, marks=pytest.mark.exhaustive),
    ],
)
def test_every_rank_gets_sigterm_and_its_own_status_is_passed_on(
    tmp_path: Path, how: str, number: signal.Signals, status: int
) -> None:
    run = Started(tmp_path, how)
    run.process.send_signal(number)
    ended, err, outcome = run.end()
    assert ended == status, err
    first = "SIGINT" if number == signal.SIGINT else "SIGTERM"
    assert f"stopping ({number.name}): {first} to every rank" in err
    assert "error: " not in err
    assert (outcome["status"], outcome["exit_code"]) == ("stopped", status)
    for rank, what in enumerate(how.split(",")):
        assert run.asked(rank) == ([] if what == "default" else ["15 None"])  # its child was left alone


def test_launch_stop_reaches_a_script_which_is_killed_when_its_grace_is_over(
    launch: Launch, tmp_path: Path
) -> None:
    run = Started(tmp_path, "deaf,0", "--grace", "1")
    refused = launch("checkpoint", "asked")
    assert (refused.status, "asked is a script" in refused.err) == (2, True), refused.err
    told = launch("stop", "asked")
    assert (told.status, told.err) == (0, "asked is stopped\n")
    ended, err, outcome = run.end()
    assert ended == 143, err
    assert "killed after its grace" in err
    assert outcome["status"] == "stopped"
    assert run.asked(0) == run.asked(1) == ["15 None"]


def test_a_second_interrupt_does_not_wait_for_the_grace_and_nothing_else_ends_it(
    launch: Launch, tmp_path: Path
) -> None:
    run = Started(tmp_path, "deaf,deaf", "--grace", "3600")
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        run.process.send_signal(number)
        time.sleep(0.2)
    assert run.process.poll() is None
    said = launch("status", "asked", "--json")
    assert json.loads(said.out)["status"] == "stopping"
    run.process.send_signal(signal.SIGINT)
    ended, err, outcome = run.end()
    assert ended == 130, err
    assert outcome["status"] == "failed"
    assert run.asked(0) == run.asked(1) == ["15 None"]


def test_a_closed_terminal_ends_it_and_leaves_nothing(tmp_path: Path) -> None:
    master, terminal = pty.openpty()
    run = Started(
        tmp_path,
        "default,default",
        stdin=terminal,
        stdout=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    os.close(master)  # the kernel hangs up: SIGHUP to the session's leader
    ended, err, outcome = run.end()
    assert ended == 129, err
    assert outcome["status"] == "stopped"


TIDY = """
import atexit, os, signal, sys, time
from pathlib import Path
here, rank = Path(sys.argv[1]), os.environ["RANK"]
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGINT, lambda *_: (here / f"deaf-{rank}").touch())
    signal.signal(signal.SIGTERM, lambda *_: ((here / f"term-{rank}").touch(), sys.exit(3)))
atexit.register(lambda: (here / f"atexit-{rank}").touch())
try:
    (here / f"ready-{rank}").touch()
    while True:
        time.sleep(0.05)
except KeyboardInterrupt:
    (here / f"interrupted-{rank}").touch()
    raise
finally:
    (here / f"finally-{rank}").touch()
"""


class Tidy:
    """``launch run`` of two ranks that tidy up, started with SIGHUP ignored as ``nohup`` does."""

    def __init__(self, here: Path, how: str, *options: str) -> None:
        self.here = here
        (here / "fin.py").write_text(TIDY)
        arguments = ["run", "--cpu", "2", "--name", "asked", *options, str(here / "fin.py"), str(here), how]
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *LAUNCH, *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.wait_for("ready-0", "ready-1")

    def wait_for(self, *names: str) -> None:
        deadline = time.monotonic() + WATCHDOG
        while not all((self.here / name).exists() for name in names):
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def files(self, *names: str) -> list[str]:
        return [
            f"{name}-{rank}" for name in names for rank in range(2) if (self.here / f"{name}-{rank}").exists()
        ]


def test_ctrl_c_lets_ranks_tidy_up_and_a_hangup_that_was_ignored_stays_ignored(tmp_path: Path) -> None:
    run = Tidy(tmp_path, "listens")
    run.process.send_signal(signal.SIGHUP)
    time.sleep(0.2)
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGINT)
    _, err = run.process.communicate(timeout=WATCHDOG)
    assert run.process.returncode == 130, err
    assert "SIGHUP" not in err
    assert "stopping (SIGINT): SIGINT to every rank, SIGTERM in 10 s, SIGKILL in 20 s" in err
    assert len(run.files("interrupted", "finally", "atexit")) == 6
    assert outcome_of("asked")["status"] == "stopped"


@pytest.mark.exhaustive
def test_ranks_that_do_not_answer_an_interrupt_get_sigterm_after_their_grace(tmp_path: Path) -> None:
    run = Tidy(tmp_path, "deaf", "--grace", "1")
    run.process.send_signal(signal.SIGINT)
    _, err = run.process.communicate(timeout=WATCHDOG)
    assert run.process.returncode == 3, err
    assert len(run.files("deaf", "term", "finally", "atexit")) == 8

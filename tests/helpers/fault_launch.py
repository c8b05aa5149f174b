"""A launch with a planted fault, seen from outside: shared by the tables of ``launch run`` and ``launch train``."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers.launch import WATCHDOG, outcome_of
from tests.helpers.warm_launch import start_launch

WORLD = 3
HANG_TIMEOUT = "4"  # seconds of --hang-timeout
CARD_LINES = 12
BUSY_PROCESSES = 3 * (os.cpu_count() or 1)


class FaultyLaunch:
    """One ``launch``; each process of it carries its mark, or sleeps for as long as no other does."""

    def __init__(self, arguments: Iterable[str], folder: Path, cwd: Path | None = None, **more: Any) -> None:
        self.mark, self.orphan_sleep = uuid.uuid4().hex, f"600.{random.SystemRandom().randrange(10**12)}"
        self.ready = folder / "ready"
        self.ready.unlink(missing_ok=True)
        environment = {
            "FAULT_MARK": self.mark,
            "FAULT_ORPHAN_SLEEP": self.orphan_sleep,
            "FAULT_READY": str(self.ready),
        }
        streams = {name: more.pop(name, subprocess.PIPE) for name in ("stdout", "stderr")}
        self.process = start_launch(
            *arguments,
            cwd=cwd,
            env={**os.environ, **environment, **more.pop("env", {})},
            text=True,
            start_new_session=True,
            **streams,
            **more,
        )

    def family(self) -> list[psutil.Process]:
        wanted = f"FAULT_MARK={self.mark}".encode()
        found = []
        for process in psutil.process_iter():
            try:
                about = Path(f"/proc/{process.pid}")
                words = (about / "environ").read_bytes() + b"\0" + (about / "cmdline").read_bytes()
                if {wanted, self.orphan_sleep.encode()} & set(words.split(b"\0")):
                    found.append(process)
            except OSError:
                continue
        return [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + WATCHDOG
        while not self.ready.exists():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def resume(self) -> None:
        """Resume the ranks that wait at a "pause"."""
        self.ready.with_suffix(".go").touch()

    def agent(self) -> psutil.Process:
        (agent,) = psutil.Process(self.process.pid).children()
        return agent

    def end(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=WATCHDOG)
        return self.process.returncode, err

    def check_nothing_is_left(self) -> None:
        deadline = time.monotonic() + 20
        while (left := self.family()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left == []

    def check_card(self, rank: int, status: int, words: str) -> None:
        """It ends with this status, this rank named, and no process left."""
        ended, err = self.end()
        assert ended == status, err
        card = err[err.rindex("error: ") :]
        assert card.startswith(f"error: rank {rank} of {WORLD}"), err
        assert words in card, err
        assert len(card.splitlines()) <= CARD_LINES
        self.check_nothing_is_left()


@contextmanager
def cleaned_up(run: FaultyLaunch) -> Iterator[FaultyLaunch]:
    """Whatever a test finds, nothing of it stays."""
    try:
        yield run
    finally:
        for process in run.family():
            process.kill()
        if run.process.poll() is None:
            run.process.kill()
        run.process.communicate()


def check_outcome(name: str, status: str, exit_code: int) -> None:
    outcome = outcome_of(name)
    assert (outcome["status"], outcome["exit_code"]) == (status, exit_code)


def cases(table: Iterable[tuple[Any, ...]], sample: Collection[tuple[Any, ...]]) -> list[Any]:
    """The parameters of a table, those outside the sample for ``-m exhaustive``."""
    return [
        pytest.param(
            *case, marks=[] if case in sample else [pytest.mark.exhaustive], id="-".join(map(str, case))
        )
        for case in table
    ]


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """So many processes that compute for nothing."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()

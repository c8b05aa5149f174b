"""A rank's error is written down, whatever else happens meanwhile."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.training.rank.error_report import reported


class SecondWorkerError(Exception):
    """Another loader worker ends in the middle of the report of this."""

    def __str__(self) -> str:
        os.kill(os.getpid(), signal.SIGCHLD)
        return "the first worker's end"


@pytest.fixture(autouse=True)
def workers() -> Iterator[None]:
    """As a DataLoader with workers leaves it: the end of a child raises wherever the process is."""

    def raises(number: int, _: object) -> None:
        raise RuntimeError(f"a worker ended: {number}")

    before = signal.signal(signal.SIGCHLD, raises)
    yield
    signal.signal(signal.SIGCHLD, before)


def test_a_second_worker_cannot_cut_off_the_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    after: list[bool] = []

    def work() -> int:
        raise SecondWorkerError

    status = reported(work, tmp_path, 3, after=lambda: after.append((tmp_path / "error-3.json").exists()))
    told = json.loads((tmp_path / "error-3.json").read_text())
    assert (status, after) == (told["exit_status"], [True])
    assert (told["rank"], told["type"]) == (3, "SecondWorkerError")
    assert "the first worker's end" in told["message"]
    assert "SecondWorkerError" in capfd.readouterr().err


def test_work_that_goes_well_has_its_own_status(tmp_path: Path) -> None:
    assert reported(lambda: 75, tmp_path, 0, after=lambda: pytest.fail("nothing failed")) == 75
    assert list(tmp_path.iterdir()) == []


def test_what_the_disk_does_not_take_is_sent_and_no_error_of_its_own(tmp_path: Path) -> None:
    def work() -> int:
        raise UsageError("mine", "mend it")

    sent: list[dict[str, Any]] = []
    assert reported(work, tmp_path / "not there", 3, send=sent.append) == 2
    assert reported(work, tmp_path / "not there", 3) == 2
    (told,) = sent
    assert (told["rank"], told["message"], told["hint"], told["exit_status"]) == (3, "mine", "mend it", 2)

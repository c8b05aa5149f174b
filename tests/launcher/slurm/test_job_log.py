"""The job log on a disk that is full: nothing that is noted later is lost, and nobody's jobs live on because of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lockstep.launcher.commands import stop as ask
from lockstep.launcher.runs import slurm_jobs as job_ask
from lockstep.launcher.runs import slurm_status as job_state
from lockstep.launcher.runs.run_folder import runs_root
from lockstep.launcher.slurm import slurm_client
from lockstep.launcher.slurm.job_log import last_job, note_job, read_jobs
from lockstep.launcher.slurm.slurm_client import QueuedJob
from lockstep.launcher.sweep.stop import cancel_sweep
from lockstep.launcher.sweep.sweep_folder import Sweep, write_sweep
from tests.helpers.slurm.answers import queue_answer, submitted_run


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, room: int) -> Iterator[None]:
    """For so many bytes there is room."""
    left, real = [room], os.write

    def write(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(descriptor, data[: left[0]])
        left[0] -= written
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        yield


@pytest.mark.parametrize("room", [0, 1, 30])
def test_a_line_that_was_cut_short_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    note_job(tmp_path, "submitted", 1)
    with full_disk(monkeypatch, room), pytest.raises(OSError, match="No space left"):
        note_job(tmp_path, "lost", 1)
    note_job(tmp_path, "ended", 1)
    note_job(tmp_path, "submitted", 2)
    assert [event["event"] for event in read_jobs(tmp_path)] == ["submitted", "ended", "submitted"]


@pytest.fixture
def cancelled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs 1, which runs, and 2, which waits; the numbers that scancel got."""
    jobs: dict[str, QueuedJob] = dict(queue_answer("RUNNING", "PENDING").jobs)
    got: list[str] = []

    def cancel(*ids: str) -> None:
        got.extend(ids)
        for job in ids:
            del jobs[job]

    monkeypatch.setattr(slurm_client, "cancel", cancel)
    monkeypatch.setattr(job_state, "_queue", lambda ids, _: {job: jobs[job] for job in ids if job in jobs})
    return got


def test_jobs_are_cancelled_where_that_cannot_be_noted(
    cancelled: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    folder = submitted_run("r", "1", "2")
    with full_disk(monkeypatch, 0):
        assert ask.cancel("r", 1.0) == 0
    assert cancelled == ["2", "1"]
    assert "No space left" in capsys.readouterr().err
    assert "cancelled" not in [event["event"] for event in read_jobs(folder)]


def test_what_waits_is_withdrawn_where_that_cannot_be_noted(
    cancelled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = submitted_run("r", "1", "2")
    with full_disk(monkeypatch, 0):
        assert job_ask.withdraw(folder, why="launch stop") == ["2"]
    assert cancelled == ["2"]


def test_a_sweep_is_cancelled_where_that_cannot_be_noted(
    cancelled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs_root() / "s"
    folder.mkdir(parents=True)
    sweep = Sweep(folder, "own", "config.yaml", folder, [], {"lr": ["1"]}, [{"lr": "1"}], slurm=True)
    write_sweep(sweep)
    submitted_run("s-000", "1", "2")
    with full_disk(monkeypatch, 0):
        assert cancel_sweep(sweep) == 0
    assert cancelled == ["2", "1"]


def test_the_log_of_jobs_keeps_whole_lines(tmp_path):
    assert (read_jobs(tmp_path), last_job(tmp_path)) == ([], None)
    note_job(tmp_path, "submitted", 7, how="chain")
    note_job(tmp_path, "started", "7", node="n1")
    note_job(tmp_path, "submitted", 8)
    with (tmp_path / "slurm" / "jobs.jsonl").open("a") as file:
        file.write('{"time": 3, "event": "subm')
    assert [(event["event"], event["job"]) for event in read_jobs(tmp_path)] == [
        ("submitted", "7"),
        ("started", "7"),
        ("submitted", "8"),
    ]
    assert last_job(tmp_path) == "8"
    assert (tmp_path / "slurm" / "jobs.jsonl").stat().st_mode & 0o777 == 0o600

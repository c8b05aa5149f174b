"""A submitter that is killed outright between sbatch's answer and its note of it: no job is lost or sent twice."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from lockstep.launcher.job_log import read_jobs
from tests.conftest import Launch

from .cluster import Cluster, deadly_sbatch

KILLED = -signal.SIGKILL


def _queue(slurm: Cluster) -> list[str]:
    return sorted(slurm.run("squeue", "-h", "--array", "-o", "%i").split())


def _notes(run: Path) -> list[str]:
    return [event["event"] for event in read_jobs(run)]


def test_its_run_is_found_in_the_queue(
    launch: Launch, slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("digits", "--cpu", "1", "--time", "5min", "--sbatch", "hold", "--name", "a")
    with monkeypatch.context() as patched:
        deadly_sbatch(tmp_path, patched, sends=True)
        assert launch("submit", *given).status == KILLED
    run = tmp_path / "runs" / "a"
    (job,) = _queue(slurm)
    assert _notes(run) == ["sending"]
    found = launch("status", "a", "--json").document
    assert (found["status"], found["slurm"]["job"]) == ("queued", job)
    assert _notes(run) == ["sending", "submitted"]
    again = launch("resume", "a")
    assert (again.status, f"a has job {job}" in again.err) == (2, True), again.err
    assert launch("cancel", "a").status == 0
    assert _queue(slurm) == []


def test_a_name_is_free_again_after_a_submitter_that_was_killed_while_it_asked(
    launch: Launch, slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("digits", "--cpu", "1", "--time", "5min", "--sbatch", "hold", "--name", "a")
    with monkeypatch.context() as patched:
        deadly_sbatch(tmp_path, patched, tries=False)
        assert launch("submit", *given).status == KILLED
    assert (tmp_path / "runs" / "a").is_dir()
    assert launch("status", "a").status == 0
    again = launch("submit", *given)
    assert again.status == 0, again.err
    assert len(_queue(slurm)) == 1


def test_a_run_that_was_never_sent_can_be(
    launch: Launch, slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("digits", "--cpu", "1", "--time", "5min", "--sbatch", "hold", "--name", "a")
    with monkeypatch.context() as patched:
        deadly_sbatch(tmp_path, patched, sends=False)
        assert launch("submit", *given).status == KILLED
    assert _queue(slurm) == []
    assert "no job of it is known to SLURM; `launch resume a` sends it" in launch("status", "a").out
    assert "not sent" in launch("status").out
    sent = launch("resume", "a")
    assert sent.status == 0, sent.err
    assert len(_queue(slurm)) == 1


def test_its_points_are_found_and_not_sent_twice(
    launch: Launch, slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (
        "digits",
        "train.seed=0..1",
        "--cpu",
        "1",
        "--time",
        "5min",
        "--sbatch",
        "hold",
        "--name",
        "s",
        "--submit",
    )
    with monkeypatch.context() as patched:
        deadly_sbatch(tmp_path, patched, sends=True)
        assert launch("sweep", *given).status == KILLED
    before = _queue(slurm)
    assert [job.partition("_")[2] for job in before] == ["0", "1"]
    again = launch("sweep", "s", "--submit")
    assert "no point of s is due" in again.err
    assert _queue(slurm) == before
    points = launch("status", "s", "--json").document["points"]
    assert [point["status"] for point in points] == ["queued", "queued"]
    assert launch("cancel", "s").status == 0
    assert _queue(slurm) == []
    with monkeypatch.context() as patched:
        (tmp_path / "deadly" / "sbatch").unlink()
        (tmp_path / "deadly").rmdir()
        deadly_sbatch(tmp_path, patched, sends=True)
        assert launch("sweep", "s", "--submit").status == KILLED
    after = _queue(slurm)
    assert "no point of s is due" in launch("sweep", "s", "--submit").err
    assert _queue(slurm) == after
    assert set(before) & set(after) == set()

"""A submitter that is killed outright between sbatch's answer and its note of it: no job is lost or sent twice."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lockstep.launcher.slurm.job_log import read_jobs
from tests.helpers.launch import Launch
from tests.helpers.slurm.cluster import Cluster, killing_sbatch

HELD = ("--cpu", "1", "--time", "5min", "--sbatch", "hold")
ONE = ("submit", "digits", *HELD, "--name", "a")
Killed = Callable[..., None]


@pytest.fixture
def killed(launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Killed:
    """Give a command whose sbatch, at a moment to name, kills it."""

    def run(*command: str, **moment: bool) -> None:
        with monkeypatch.context() as patched:
            killing_sbatch(tmp_path, patched, **moment)
            assert launch(*command).status == -signal.SIGKILL

    return run


def _queue(slurm: Cluster) -> list[str]:
    return sorted(slurm.run("squeue", "-h", "--array", "-o", "%i").split())


def _notes(run: Path) -> list[str]:
    return [event["event"] for event in read_jobs(run)]


def test_its_run_is_found_in_the_queue(
    killed: Killed, launch: Launch, slurm: Cluster, tmp_path: Path
) -> None:
    killed(*ONE, sends=True)
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
    killed: Killed, launch: Launch, slurm: Cluster, tmp_path: Path
) -> None:
    killed(*ONE, tries=False)
    assert (tmp_path / "runs" / "a").is_dir()
    assert launch("status", "a").status == 0
    again = launch(*ONE)
    assert again.status == 0, again.err
    assert len(_queue(slurm)) == 1


def test_a_run_that_was_never_sent_can_be(killed: Killed, launch: Launch, slurm: Cluster) -> None:
    killed(*ONE, sends=False)
    assert _queue(slurm) == []
    assert "no job of it is known to SLURM; `launch resume a` sends it" in launch("status", "a").out
    assert "not sent" in launch("status").out
    sent = launch("resume", "a")
    assert sent.status == 0, sent.err
    assert len(_queue(slurm)) == 1


def test_its_points_are_found_and_not_sent_twice(killed: Killed, launch: Launch, slurm: Cluster) -> None:
    killed("sweep", "digits", "train.seed=0..1", *HELD, "--name", "s", "--submit", sends=True)
    before = _queue(slurm)
    assert [job.partition("_")[2] for job in before] == ["0", "1"]
    again = launch("sweep", "s", "--submit")
    assert "no point of s is due" in again.err
    assert _queue(slurm) == before
    points = launch("status", "s", "--json").document["points"]
    assert [point["status"] for point in points] == ["queued", "queued"]
    assert launch("cancel", "s").status == 0
    assert _queue(slurm) == []
    killed("sweep", "s", "--submit", sends=True)
    after = _queue(slurm)
    assert "no point of s is due" in launch("sweep", "s", "--submit").err
    assert _queue(slurm) == after
    assert set(before) & set(after) == set()

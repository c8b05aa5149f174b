"""``status``, ``logs``, ``stop`` and ``cancel`` of runs that a real SLURM has. The jobs themselves only wait."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lockstep.launcher.runs.run_folder import create_run
from lockstep.launcher.slurm.job_log import FOLDER, note_job
from lockstep.launcher.slurm.job_spec import JobSpec, write_job
from tests.helpers.launch import LAUNCH, WATCHDOG, Launch
from tests.helpers.slurm.cluster import Cluster, wait_until


def submit(
    slurm: Cluster, name: str, *options: str, script: str = "echo begun; sleep 300"
) -> tuple[Path, str]:
    """A run folder as ``launch submit`` leaves it, and its job."""
    folder = create_run(name, "x")
    (folder / FOLDER).mkdir()
    write_job(folder, JobSpec("train", name, "0" * 8, cpu=1))
    job = slurm.sbatch(script, f"--chdir={folder}", f"--output={folder}/{FOLDER}/job-%j.log", *options)
    note_job(folder, "submitted", job, how="chain")
    return folder, job


def silent(tmp_path: Path, *tools: str) -> dict[str, str]:
    """A PATH on which these tools never answer."""
    folder = tmp_path / "silent"
    folder.mkdir()
    for tool in tools:
        (folder / tool).write_text("#!/bin/sh\nexec sleep 1000\n")
        (folder / tool).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_a_run_is_seen_queued_running_and_cancelled(slurm: Cluster, launch: Launch, tmp_path: Path) -> None:
    _, held = submit(slurm, "held", "--hold")
    folder, job = submit(slurm, "busy")
    slurm.wait_for(job, "RUNNING")
    wait_until(lambda: any((folder / FOLDER).glob("job-*.log")), "the job's log")

    found = launch("status", "held", "--json").document
    assert (found["status"], found["slurm"]["job"], found["slurm"]["reason"]) == (
        "queued",
        held,
        "JobHeldUser",
    )
    found = launch("status", "busy", "--json").document
    assert (found["status"], found["slurm"]["state"], found["slurm"]["asked"]) == ("running", "RUNNING", True)
    assert launch("logs", "busy").out == "begun\n"
    table = launch("status").out
    assert f"{held} PENDING (JobHeldUser)" in table
    assert f"{job} RUNNING" in table

    env = silent(tmp_path, "squeue", "scontrol", "sacct")
    slow = launch("status", "--json", env=env)
    assert slow.status == 0
    assert {run["run"]: run["status"] for run in slow.document["runs"]} == {
        "held": "queued",
        "busy": "queued",
    }
    assert all("no answer" in run["slurm"]["problem"] for run in slow.document["runs"])
    assert "SLURM could not be asked" in launch("status", "busy", env=env).out

    again = launch("resume", "busy")
    assert again.status == 2
    assert job in again.err
    stopped = launch("stop", "held")
    assert stopped.status == 0, stopped.err
    assert "withdrawn" in stopped.err
    slurm.wait_for(held, "CANCELLED")
    cancelled = launch("cancel", "busy")
    assert cancelled.status == 0, cancelled.err
    slurm.wait_for(job, "CANCELLED")
    found = launch("status", "busy", "--json").document
    assert (found["status"], found["slurm"]["disagreement"]) == ("cancelled", None)
    told = launch("status", "held").out
    assert "held: stopped before it began" in told
    assert "resume it with `launch resume held`" in told


def test_a_job_that_fails_without_an_outcome_and_one_that_contradicts_it(
    slurm: Cluster, launch: Launch
) -> None:
    lost, first = submit(slurm, "lost", script="exit 9")
    _, second = submit(slurm, "liar", script="exit 9")
    (lost.parent / "liar" / "outcome.json").write_text('{"status": "done", "exit_code": 0}')
    slurm.wait_for(first, "FAILED")
    slurm.wait_for(second, "FAILED")
    assert "SLURM: FAILED; the run wrote no outcome" in launch("status", "lost").out
    assert "SLURM: FAILED; the run's own outcome: done" in launch("status", "liar").out
    assert launch("status").out.count(" !") == 2


def test_logs_follow_a_run_from_its_job_over_its_attempts(slurm: Cluster, tmp_path: Path) -> None:
    folder, job = submit(slurm, "long", script="echo the set-up; sleep 300")
    following = subprocess.Popen([*LAUNCH, "logs", "long", "-f"], stdout=subprocess.PIPE, text=True)
    assert following.stdout
    try:
        assert following.stdout.readline() == "the set-up\n"
        for number in (1, 2):
            (folder / f"attempt-{number}").mkdir()
            (folder / f"attempt-{number}" / "rank-0.log").write_text(f"attempt {number}\n")
            assert following.stdout.readline() == f"attempt {number}\n"
        (folder / "outcome.json").write_text(json.dumps({"status": "stopped", "exit_code": 75}))
        slurm.cancel(job)
        assert following.communicate(timeout=WATCHDOG)[0] == ""
    finally:
        following.kill()
        following.wait()


@pytest.mark.exhaustive
def test_cancelling_takes_the_chain_first(slurm: Cluster, launch: Launch) -> None:
    folder, job = submit(slurm, "chain")
    behind = slurm.sbatch("echo late", f"--dependency=afterany:{job}", f"--chdir={folder}")
    note_job(folder, "submitted", behind)
    slurm.wait_for(job, "RUNNING")
    assert launch("status", "chain", "--json").document["slurm"]["next"] == behind
    assert launch("cancel", "chain").status == 0
    slurm.wait_for(behind, "CANCELLED")
    assert slurm.log(behind) == ""

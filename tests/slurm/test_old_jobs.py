"""Jobs that version 0.1 has queued, and that start after an upgrade: SLURM has kept the script, not the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.launch import Launch
from tests.helpers.old_runs import OldRuns, copy_old_runs
from tests.helpers.slurm.cluster import Cluster


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OldRuns:
    monkeypatch.setenv("MINE", "yes")
    return copy_old_runs(tmp_path)


def queue(old: OldRuns, slurm: Cluster, name: str) -> str:
    """Let SLURM have the job as version 0.1 had sent it; held, so that its number is there before it starts."""
    options = json.loads((old.run(name) / "job.json").read_text())["sbatch"]
    job = slurm.run("sbatch", "--parsable", "--hold", *options, *old.argv(name)).strip()
    old.number(name, job)
    return job


def wait_for_end(old: OldRuns, slurm: Cluster, name: str, job: str) -> list[dict[str, object]]:
    """Let the job run, and say what the run's job log has of it."""
    slurm.run("scontrol", "release", job)
    state = slurm.wait_for(job)
    logs = sorted(old.run(name).glob("slurm/**/*.log"))
    assert state == "COMPLETED", [path.read_text() for path in logs]
    lines = (old.run(name) / "slurm" / "jobs.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["job"] == job]


def test_a_queued_training_is_shown_and_trained(old: OldRuns, launch: Launch, slurm: Cluster) -> None:
    job = queue(old, slurm, "queued")
    shown = launch("status", "queued")
    assert (shown.status, f"job {job}: PENDING" in shown.out) == (0, True), shown
    events = wait_for_end(old, slurm, "queued", job)
    assert [event["event"] for event in events] == ["submitted", "started", "ended"]
    assert events[-1]["action"] == "finish"
    outcome = old.outcome("queued")
    assert (outcome["status"], outcome["steps"], outcome["world_size"]) == ("done", 100, 2)
    assert launch("status", "queued").out.startswith("queued: done\n")
    sent = json.loads((old.run("queued") / "job.json").read_text())
    assert json.loads((old.run("queued") / "spec.json").read_text())["wandb_id"] == sent["wandb_id"]


def test_a_queued_program_is_run(old: OldRuns, launch: Launch, slurm: Cluster) -> None:
    job = queue(old, slurm, "script")
    events = wait_for_end(old, slurm, "script", job)
    assert events[-1]["action"] == "finish"
    said = "".join(path.read_text() for path in old.run("script").rglob("rank-*.log"))
    assert {"rank 0 of 2", "rank 1 of 2"} <= set(said.splitlines())
    assert launch("status", "script").out.startswith("script: done\n")

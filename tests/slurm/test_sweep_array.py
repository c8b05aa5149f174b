"""``launch sweep --submit`` on a real cluster: one array, a run for each point, and each point's life is its own."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from lockstep.launcher.slurm.job_log import read_jobs
from lockstep.launcher.slurm.job_spec import BATCH_SCRIPT, read_job
from tests.helpers.launch import Launch, runs_folder
from tests.helpers.run_records import DIGESTS
from tests.helpers.slurm.cluster import Cluster, recorded_sbatch, set_pace, wait_until

POINT = """
import os, time
from pathlib import Path
from torch import nn as N

def model(frail=0, width=7):
    if frail and not Path(__file__).with_name("cure").exists():
        raise ValueError("too frail")
    return N.Sequential(N.Linear(width, 11), N.Tanh(), N.Linear(11, 2))

def paced(output, target):
    pace = Path(__file__).with_name("pace")
    if pace.exists():
        time.sleep(float(pace.read_text()))
    return N.functional.cross_entropy(output, target, reduction="none")
"""
SETTINGS = ("loss.use=./own.py:paced", "train.epochs=4", "data.args={n: 307, m: 101}", "log.every_steps=5")
STEPS = 40
JOB = ("--submit", "--cpu", "1", "--time", "10min")
CANARY = "canary-7e21b9"
SAME = (*DIGESTS, "metrics", "steps", "samples")


class Grid:
    """A user's folder, with a sweep in it."""

    def __init__(self, folder: Path, launch: Launch, cluster: Cluster) -> None:
        self.folder, self.launch, self.cluster = folder, launch, cluster
        self.runs = runs_folder()

    def pace(self, seconds: float) -> None:
        set_pace(self.folder, seconds)

    def sweep(self, *arguments: str, status: int = 0) -> Any:
        done = self.launch("sweep", *arguments, "--json", cwd=self.folder)
        assert done.status == status, done.err
        return done.document

    def submit(self, *arguments: str) -> str:
        """The array's number; the sweep is ``s``."""
        return self.sweep("own.yaml", *SETTINGS, *JOB, "--name", "s", *arguments)["job"]

    def point(self, index: int) -> Path:
        return self.runs / f"s-{index:03d}"

    def states(self) -> list[str]:
        return [point["status"] for point in self.launch("status", "s", "--json").document["points"]]

    def told(self) -> str:
        logs = [*self.runs.glob("s-*/slurm/*.log"), *self.runs.glob("s-*/slurm/*/*.log")]
        logs += self.runs.glob("s-*/slurm/jobs.jsonl")
        return "\n".join(f"== {path}\n{path.read_text()}" for path in logs)

    def wait_for(self, *states: str) -> None:
        wait_until(
            lambda: self.states() == list(states), f"{states}, are {self.states()}\n{self.told()}", 240
        )

    def ended(self, index: int) -> list[dict[str, Any]]:
        return [event for event in read_jobs(self.point(index)) if event["event"] == "ended"]

    def started(self, index: int) -> list[tuple[str, int]]:
        events = [event for event in read_jobs(self.point(index)) if event["event"] == "started"]
        return [(event["job"], event["restart"]) for event in events]

    def wait_for_step(self, index: int, step: int) -> None:
        record = self.point(index) / "metrics.jsonl"
        wait_until(lambda: record.exists() and f'"step": {step}' in record.read_text(), f"step {step}", 240)

    def outcome(self, index: int) -> dict[str, Any]:
        return json.loads((self.point(index) / "outcome.json").read_text())

    def whole(self, *more: str) -> dict[str, Any]:
        """The end that a point has undisturbed, on this machine."""
        done = self.launch(
            "train", "own.yaml", *SETTINGS, *more, "--cpu", "1", "--name", "whole", "--json", cwd=self.folder
        )
        assert done.status == 0, done.err
        return done.document


@pytest.fixture
def grid(own: Path, launch: Launch, slurm: Cluster) -> Grid:
    (own / "own.py").write_text((own / "own.py").read_text() + POINT)
    return Grid(own, launch, slurm)


@pytest.mark.exhaustive
def test_an_array_is_what_the_dry_run_printed_and_a_failed_point_is_retried_alone(
    grid: Grid, slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = recorded_sbatch(tmp_path, monkeypatch)
    monkeypatch.setenv("HF_TOKEN", CANARY)
    arguments = ("own.yaml", *SETTINGS, "model.args.frail=0..1", *JOB, "--at-once", "1", "--name", "s")
    planned = grid.sweep(*arguments, "--continue", "chain", "--sbatch", "nice=5", "--dry-run")
    assert not grid.runs.exists() or not list(grid.runs.iterdir())
    assert "--array=0-1%1" in planned["sbatch"]
    sent = grid.sweep(*arguments, "--continue", "chain", "--sbatch", "nice=5")
    assert [argv[0] for argv in calls()] == ["--test-only", "--test-only", "--parsable"]
    assert [["sbatch", *argv[1:]] for argv in calls()] == [planned["sbatch"]] * 3
    for path, text in planned["files"].items():
        written = Path(path).read_text()
        assert written == text or _but_id(written) == _but_id(text), path
    assert planned["files"][str(BATCH_SCRIPT)] == BATCH_SCRIPT.read_text()
    assert [point["run"] for point in sent["points"]] == ["s-000", "s-001"]

    grid.wait_for("done", "failed")
    first = sent["job"]
    table = grid.launch("sweep", "s")
    assert table.status == 1
    assert f"{first}_0 COMPLETED" in table.out
    assert " !" not in table.out, "the chained job that was not needed is no disagreement"
    assert "s-001: " in table.out
    assert "too frail" in table.out
    assert "`launch sweep s --retry`" in table.out
    before = (grid.point(0) / "outcome.json").stat().st_mtime_ns
    wandb = read_job(grid.point(1)).wandb_id
    (grid.folder / "cure").touch()
    retried = grid.sweep("s", "--retry", "--time", "20min")
    assert [point["run"] for point in retried["points"]] == ["s-001"]
    grid.wait_for("done", "done")
    assert grid.started(0) == [(f"{first}_0", 0)], grid.told()
    assert grid.started(1) == [(f"{first}_1", 0), (f"{retried['job']}_1", 0)], grid.told()
    assert (grid.point(0) / "outcome.json").stat().st_mtime_ns == before
    job = read_job(grid.point(1))
    assert (job.wandb_id, "--time=00:20:00" in job.sbatch, "--nice=5" in job.sbatch) == (wandb, True, True)
    assert "s: done; 2 done" in grid.launch("status", "s").out
    assert grid.launch("sweep", "s").status == 0
    again = grid.launch("sweep", "s", "--retry")
    assert (again.status, "no point of s is due" in again.err) == (0, True)
    written = [path for folder in (grid.runs, slurm.folder) for path in folder.rglob("*") if path.is_file()]
    assert [path for path in written if CANARY.encode() in path.read_bytes()] == []


def _but_id(text: str) -> dict[str, Any]:
    return {**json.loads(text), "wandb_id": ""}


def test_an_array_that_is_refused_leaves_nothing(grid: Grid) -> None:
    given = ("own.yaml", "train.seed=0..1", "--name", "s", "--submit", "--nodes", "3")
    done = grid.launch("sweep", *given, cwd=grid.folder)
    assert (done.status, done.out) == (2, ""), done.err
    assert "has 2 nodes" in done.err
    assert list(grid.runs.iterdir()) == []


@pytest.mark.exhaustive
def test_six_points_and_one_that_is_killed(grid: Grid, slurm: Cluster) -> None:
    grid.pace(0.5)
    job = grid.submit("optimizer.lr=0.2,0.1", "train.seed=0..2", "--at-once", "3", "--continue", "chain")
    assert grid.cluster.details(f"{job}_5")["ArrayTaskThrottle"] == "3"
    victim = grid.point(1)
    wait_until(lambda: _nodes(victim), "the supervisor of a point", 240)
    for process in _nodes(victim):
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: grid.ended(1), grid.told(), 240)
    (end,) = grid.ended(1)
    assert (end["action"], end["gained"]) == ("give up", False), end
    grid.pace(0)
    grid.wait_for("done", "failed", "done", "done", "done", "done")
    assert all(grid.started(index) == [(f"{job}_{index}", 0)] for index in range(6))
    assert max(_together(grid, 6)) <= 3
    retried = grid.sweep("s", "--retry")
    assert [point["run"] for point in retried["points"]] == ["s-001"]
    grid.wait_for(*["done"] * 6)
    table = grid.launch("sweep", "s")
    assert table.status == 0
    assert len([line for line in table.out.splitlines() if line.startswith("s-00")]) == 6
    assert "best: s-00" in table.out
    assert "s: done; 6 done" in table.out
    assert all(grid.started(index) == [(f"{job}_{index}", 0)] for index in (0, 2, 3, 4, 5))
    csv = (grid.runs / "s" / "results.csv").read_text().splitlines()
    assert [row.split(",")[:5] for row in csv[1:]] == [
        [f"s-{3 * i + seed:03d}", lr, str(seed), "done", "0"]
        for i, lr in enumerate(["0.2", "0.1"])
        for seed in range(3)
    ]


def _nodes(run: Path) -> list[psutil.Process]:
    """The supervisors of a run's nodes."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or [""]
        if command[-2:] == ["lockstep.launcher.job.node_supervisor", str(run)] and "srun" not in command[0]:
            found.append(process)
    return found


def _together(grid: Grid, count: int) -> list[int]:
    """How many points ran when another began."""
    events = [event for index in range(count) for event in read_jobs(grid.point(index))]
    running, most = 0, []
    for event in sorted(events, key=lambda event: event["time"]):
        running += (event["event"] == "started") - (event["event"] == "ended")
        most.append(running)
    return most


@pytest.mark.exhaustive
def test_a_time_limit_continues_that_point_alone(grid: Grid, slurm: Cluster) -> None:
    whole = grid.whole("train.seed=1", "train.epochs=20")
    grid.pace(0.4)
    job = grid.submit("train.seed=0..1", "train.epochs=20", "--at-once", "1", "--continue", "chain")
    slurm.run("scontrol", "update", f"JobId={job}_1", "TimeLimit=1")  # it waits for the other one
    wait_until(lambda: grid.ended(1), grid.told(), 240)
    end = grid.ended(1)[0]
    assert (end["cause"], end["action"], end["exit_code"]) == ("limit", "continue", 75), grid.told()
    grid.pace(0)
    grid.wait_for("done", "done")
    assert [job for job, _ in grid.started(1)] == [f"{job}_1", end["next"]]
    assert grid.started(0) == [(f"{job}_0", 0)], grid.told()
    assert {key: grid.outcome(1)[key] for key in SAME} == {key: whole[key] for key in SAME}


@pytest.mark.exhaustive
def test_a_capped_array_requeues_a_point_under_its_own_number(grid: Grid, slurm: Cluster) -> None:
    """A chained job would not count against the cap; a requeued task does."""
    whole = grid.whole("train.seed=0")
    grid.pace(0.5)
    job = grid.submit("train.seed=0..1", "--at-once", "1")
    grid.wait_for_step(0, 10)
    slurm.run("scancel", "--signal=USR1", "--batch", f"{job}_0")
    wait_until(lambda: grid.ended(0), grid.told(), 240)
    (end,) = grid.ended(0)
    assert (end["cause"], end["action"], end["next"]) == ("limit", "continue", None)
    grid.wait_for_step(1, 5)
    assert grid.states()[0] == "queued"
    slurm.start_now(f"{job}_0")
    grid.pace(0)
    grid.wait_for("done", "done")
    assert grid.started(0) == [(f"{job}_0", 0), (f"{job}_0", 1)], grid.told()
    assert max(_together(grid, 2)) == 1
    assert {key: grid.outcome(0)[key] for key in SAME} == {key: whole[key] for key in SAME}


@pytest.mark.exhaustive
def test_a_preempted_point_goes_on_alone(grid: Grid, slurm: Cluster) -> None:
    whole = grid.whole("train.seed=0")
    grid.pace(0.5)
    job = grid.submit("train.seed=0..1", "--sbatch", "exclusive")
    grid.wait_for_step(0, 10)
    grid.wait_for_step(1, 5)
    node = slurm.details(f"{job}_0")["NodeList"]
    other = slurm.sbatch("exec sleep 600", "--partition=high", f"--nodelist={node}", "--exclusive")
    wait_until(lambda: grid.ended(0), grid.told(), 240)
    assert grid.ended(0)[0]["cause"] == "preempted"
    slurm.wait_for(other, "RUNNING")
    slurm.cancel(other)
    grid.pace(0)
    grid.wait_for("done", "done")
    assert grid.started(1) == [(f"{job}_1", 0)], grid.told()
    assert {key: grid.outcome(0)[key] for key in SAME} == {key: whole[key] for key in SAME}


@pytest.mark.exhaustive
def test_stopping_and_cancelling_reach_every_point(grid: Grid, slurm: Cluster) -> None:
    grid.pace(0.5)
    job = grid.submit("train.seed=0..2", "train.epochs=400", "--at-once", "2", "--continue", "chain")
    grid.wait_for_step(0, 5)
    grid.wait_for_step(1, 5)
    stopped = grid.launch("stop", "s", "--wait", "120")
    assert stopped.status == 0, stopped.err
    wait_until(lambda: not slurm.run("squeue", "-h", "-o", "%i").split(), "an empty queue")
    assert grid.states()[:2] == ["stopped", "stopped"]
    assert [grid.outcome(index)["exit_code"] for index in (0, 1)] == [75, 75]
    assert grid.started(2) == []
    on = grid.sweep("s", "--submit")
    assert [point["run"] for point in on["points"]] == ["s-000", "s-001", "s-002"]
    wait_until(lambda: len(grid.started(0)) > 1, grid.told(), 240)
    assert grid.started(0)[1] == (f"{on['job']}_0", 0)
    assert job != on["job"]
    again = grid.launch("sweep", "s", "--submit")
    assert "no point of s is due" in again.err
    cancelled = grid.launch("cancel", "s")
    assert cancelled.status == 0, cancelled.err
    assert slurm.run("squeue", "-h", "-o", "%i").split() == []
    assert "is not running" in grid.launch("cancel", "s").err

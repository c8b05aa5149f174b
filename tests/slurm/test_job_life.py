"""What becomes of a training in SLURM's hands, on a real cluster: the end is the one that nothing had interrupted."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from lockstep.launcher.runs.stop_requests import write_request
from lockstep.launcher.slurm.job_log import read_jobs
from tests.helpers.launch import Launch
from tests.helpers.slurm.cluster import Cluster, wait_until
from tests.helpers.slurm.paced import SETTINGS, SHORT, STEPS, Paced, ended_attempts


def _times(cluster: Cluster, job: str) -> tuple[float, float]:
    """Start and end of a job, in whole seconds."""
    found = cluster.details(job)
    form = "%Y-%m-%dT%H:%M:%S"
    return tuple(time.mktime(time.strptime(found[key], form)) for key in ("StartTime", "EndTime"))


@pytest.mark.exhaustive
def test_the_clock_stops_it_in_time_and_a_chained_job_ends_it(paced: Paced, slurm: Cluster) -> None:
    whole = paced.whole()
    run, job = paced.submit("--time", "1min")
    paced.wait_for_step(run, 5)
    slurm.run("scontrol", "update", f"JobId={job}", "EndTime=now+14")
    end = paced.wait_for_end(run, "continue")
    assert (end["cause"], end["exit_code"], end["gained"]) == ("limit", 75, True), paced.told(run)
    assert 5 <= end["step"] < STEPS
    paced.pace(0)
    paced.check_done(run, whole)
    second = end["next"]
    assert _times(slurm, second)[0] - _times(slurm, job)[1] <= 5
    assert len(list(run.glob("attempt-*/rank-0.log"))) == 2
    assert {json.loads((run / "spec.json").read_text())["wandb_id"]} == {
        json.loads((run / "job.json").read_text())["wandb_id"]
    }
    assert [e["job"] for e in read_jobs(run) if e["event"] == "cancelled"] != []


@pytest.mark.exhaustive
def test_another_job_goes_on_where_the_one_that_waited_was_cancelled(paced: Paced, slurm: Cluster) -> None:
    whole = paced.whole()
    run, job = paced.submit("--time", "10min")
    paced.wait_for_step(run, 20)
    (waiting,) = [e["job"] for e in read_jobs(run) if e["event"] == "submitted" and e.get("after")]
    slurm.cancel(waiting)
    slurm.run("scancel", "--signal=USR1", "--batch", job)
    end = paced.wait_for_end(run, "continue")
    assert end["next"] not in (None, waiting), paced.told(run)
    paced.pace(0)
    paced.check_done(run, whole)


@pytest.mark.exhaustive
@pytest.mark.parametrize("lost", [False, True])
def test_a_controller_that_is_silent_for_a_while_ends_no_run(
    paced: Paced, slurm: Cluster, *, lost: bool
) -> None:
    """At the end of an attempt, where the job is to be requeued; and at the beginning of the one after a lost one."""
    whole = paced.whole()
    run, job = paced.submit("--time", "10min", f"slurm.continuation={'chain' if lost else 'requeue'}")
    paced.wait_for_step(run, 20)
    controller = slurm.record.daemons["slurmctld"].pid
    batch = next(p for p in psutil.process_iter(["cmdline"]) if _is_batch(p.info["cmdline"] or [], run))
    os.kill(controller, signal.SIGSTOP)
    try:
        batch.send_signal(signal.SIGKILL if lost else signal.SIGUSR1)
        if not lost:
            log = run / f"slurm/job-{job}.log"
            paced.wait(run, lambda: "it is asked again" in log.read_text(), "another question")
    finally:
        os.kill(controller, signal.SIGCONT)
    if lost:
        _stop_when_it_starts(paced, run, controller)
    else:
        paced.wait(run, lambda: _started_again(slurm, run, job), "a second start")
    paced.pace(0)
    paced.check_done(run, whole)
    assert len([e for e in read_jobs(run) if e["event"] == "started"]) == 2


def _stop_when_it_starts(paced: Paced, run: Path, controller: int) -> None:
    """Let the controller be silent as soon as the next job's own supervisor is there."""

    def found() -> list[psutil.Process]:
        return [p for p in psutil.process_iter(["cmdline"]) if _is_batch(p.info["cmdline"] or [], run)]

    paced.wait(run, found, "the next job")
    os.kill(controller, signal.SIGSTOP)
    try:
        logs = run / "slurm"
        paced.wait(
            run,
            lambda: any("it is asked again" in log.read_text() for log in logs.glob("job-*.log")),
            "another question",
        )
    finally:
        os.kill(controller, signal.SIGCONT)


def _is_batch(command: list[str], run: Path) -> bool:
    return command[-2:] == ["lockstep.launcher.job.batch_supervisor", str(run)]


def test_two_nodes_and_four_ranks_give_the_weights_of_four_ranks_here(paced: Paced, slurm: Cluster) -> None:
    arguments = ("own.yaml", *SHORT, "--name", "here", "--cpu", "4", "--json")
    here = paced.launch("train", *arguments, cwd=paced.folder)
    assert here.status == 0, here.err
    run, job = paced.submit(*SHORT, "--nodes", "2", "--time", "10min", pace=0)
    paced.check_done(run, here.document)
    assert json.loads((run / "outcome.json").read_text())["world_size"] == 4
    assert slurm.details(job)["NumNodes"] == "2"
    assert len(list(run.glob(f"slurm/job-{job}.0/node-*.log"))) == 2
    assert len(list(run.glob("attempt-1/rank-*.log"))) == 4


@pytest.mark.exhaustive
@pytest.mark.parametrize("partition", ["low", "cancel"])
@pytest.mark.parametrize("grace", [True, False])
def test_a_preempted_job_goes_on_when_the_nodes_are_free_again(
    paced: Paced, slurm: Cluster, partition: str, *, grace: bool
) -> None:
    whole = paced.whole()
    if not grace:
        slurm.run("scontrol", "update", f"PartitionName={partition}", "GraceTime=0")
    try:
        run, _ = paced.submit("--time", "10min", "--partition", partition)
        paced.wait_for_step(run, 120)
        other = slurm.preempting_job()
        if grace:
            end = paced.wait_for_end(run, "continue")
            assert (end["cause"], end["gained"]) == ("preempted", True), paced.told(run)
            assert end["step"] >= 120
        slurm.wait_for(other, "RUNNING")
        job = next(e["job"] for e in read_jobs(run) if e["event"] == "started")
        slurm.cancel(other)
        paced.pace(0)
        if not grace and partition == "low":
            paced.wait(run, lambda: _started_again(slurm, run, job), "a second start")
        paced.check_done(run, whole)
    finally:
        slurm.run("scontrol", "update", f"PartitionName={partition}", "GraceTime=10")


@pytest.mark.exhaustive
def test_a_signal_from_scancel_stops_it_and_it_goes_on(paced: Paced, slurm: Cluster) -> None:
    whole = paced.whole()
    ways = (["--signal=USR1", "--batch"], ["--signal=TERM"], ["--signal=USR1"], ["--signal=TERM", "--full"])
    for number, options in enumerate(ways):
        run, job = paced.submit("--time", "10min", name=f"signal-{number}")
        paced.wait_for_step(run, 20)
        slurm.run("scancel", *options, job)
        end = paced.wait_for_end(run, "continue")
        assert (end["exit_code"], end["gained"]) == (75, True), paced.told(run)
        paced.pace(0)
        paced.check_done(run, whole)


@pytest.mark.exhaustive
def test_where_nothing_may_be_chained_the_job_is_requeued(paced: Paced, slurm: Cluster) -> None:
    whole = paced.whole()
    run, job = paced.submit("--time", "10min", "slurm.continuation=requeue")
    paced.wait_for_step(run, 20)
    slurm.run("scancel", "--signal=USR1", "--batch", job)
    end = paced.wait_for_end(run, "continue")
    assert (end["cause"], end["exit_code"], end["next"]) == ("limit", 75, None), paced.told(run)
    paced.wait(run, lambda: _started_again(slurm, run, job), "a second start")
    paced.pace(0)
    paced.check_done(run, whole)
    assert len(list(run.glob("attempt-*"))) == 2


@pytest.mark.exhaustive
def test_a_cancelled_job_writes_its_checkpoint_and_no_other_starts(paced: Paced, slurm: Cluster) -> None:
    run, job = paced.submit("--time", "10min")
    paced.wait_for_step(run, 20)
    slurm.cancel(job)
    end = paced.wait_for_end(run, "stop")
    assert end["cause"] == "cancelled", paced.told(run)
    wait_until(lambda: not slurm.run("squeue", "-h", "-o", "%A").split(), paced.told(run))
    assert json.loads((run / "outcome.json").read_text())["status"] == "stopped"
    assert len([e for e in read_jobs(run) if e["event"] == "started"]) == 1


@pytest.mark.exhaustive
def test_a_stale_attempt_can_neither_commit_nor_log(paced: Paced, slurm: Cluster) -> None:
    """The node's slurmd is killed: SLURM gives the job up, but its processes live on."""
    whole = paced.whole()
    run, job = paced.submit("--time", "10min", pace=0.15)
    paced.wait_for_step(run, 105)
    stale = [p for p in psutil.process_iter(["cmdline"]) if _is_node(p.info["cmdline"] or [], run)]
    assert stale
    slurm.kill_node(slurm.details(job)["NodeList"])
    paced.wait(run, lambda: slurm.state(job) == "PENDING", "SLURM gives the job up")
    assert all(p.is_running() for p in stale)  # later they may have noticed that another start has the run
    paced.wait(run, lambda: _started_again(slurm, run, job), "a second start")
    paced.wait(run, lambda: (run / "owner").read_text().strip() == "attempt-2", "the run is taken over")
    paced.wait(run, lambda: not any(p.is_running() and p.status() != "zombie" for p in stale), "the old end")
    paced.pace(0)
    paced.check_done(run, whole)
    assert "this attempt was given up" in (run / f"slurm/job-{job}.0/node-0.log").read_text()
    assert "lives on, though SLURM has given it up" in (run / f"slurm/job-{job}.1/node-0.log").read_text()
    assert [e["step"] for e in _events(run) if e["event"] == "step"] == list(range(5, STEPS + 1, 5))


def _is_node(command: list[str], run: Path) -> bool:
    return command[-2:] == ["lockstep.launcher.job.node_supervisor", str(run)] and "srun" not in command[0]


def _started_again(slurm: Cluster, run: Path, job: str) -> bool:
    """Whether a requeued job runs; else it is asked to start now, not after SLURM's two minutes."""
    slurm.start_now(job)
    return len([e for e in read_jobs(run) if e["event"] == "started"]) > 1


def _events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


WIDE = """
class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = model()
        self.register_buffer("big", torch.ones(24_000_000, dtype=torch.float64))  # 200 MB take their time
    def forward(self, x):
        return self.inner(x)
"""


@pytest.mark.exhaustive
def test_requeued_in_the_middle_of_a_checkpoint(paced: Paced, slurm: Cluster) -> None:
    (paced.folder / "own.py").write_text((paced.folder / "own.py").read_text() + WIDE)
    more = ["model.use=./own.py:Wide", "train.epochs=20", "checkpoint.every_epochs=5"]
    whole = paced.whole(*more)
    run, job = paced.submit("--time", "10min", "slurm.continuation=requeue", *more)
    paced.wait_for_step(run, 60)
    write_request(run, "checkpoint")
    paced.wait(run, lambda: any((run / "checkpoints").glob(".step_*")), "a checkpoint that is being written")
    slurm.run("scontrol", "requeue", job)
    assert any((run / "checkpoints").glob(".step_*"))
    paced.wait(run, lambda: _started_again(slurm, run, job), "a second start")
    paced.pace(0)
    paced.check_done(run, whole)
    assert not list((run / "checkpoints").glob(".step_*"))
    (end,) = ended_attempts(run, "continue")
    assert end["cause"] == "requeued"


@pytest.mark.exhaustive
def test_a_crash_that_would_come_again_is_not_retried(paced: Paced, slurm: Cluster) -> None:
    (paced.folder / "own.py").write_text(
        (paced.folder / "own.py").read_text()
        + "\ndef broken(output, target):\n    raise ValueError('by design')\n"
    )
    run, _ = paced.submit("loss.use=./own.py:broken", name="broken")
    end = paced.wait_for_end(run, "give up")
    assert (end["cause"], end["exit_code"], end["gained"]) == ("crashed", 1, False), paced.told(run)
    wait_until(lambda: not slurm.run("squeue", "-h", "-o", "%A").split(), paced.told(run))
    outcome = json.loads((run / "outcome.json").read_text())
    assert "by design" in outcome["error"]["message"]
    assert "without having gained a step" in outcome["gave_up"]
    assert len(list(run.glob("attempt-*"))) == 1


def test_a_node_that_falls_short_is_named_before_there_is_a_rank(paced: Paced, slurm: Cluster) -> None:
    """The sandbox's GPUs are make-believe: the nodes see none."""
    done = paced.launch(
        "submit",
        "own.yaml",
        *SETTINGS,
        "--nodes",
        "2",
        "--gpus",
        "2",
        "--name",
        "short",
        "--json",
        cwd=paced.folder,
    )
    assert done.status == 0, done.err
    run, job = Path(done.document["run_dir"]), done.document["job"]
    paced.wait_for_end(run, "give up")
    paced.wait(run, (run / "outcome.json").exists, "an outcome")
    fault = "the job asked for 2 GPUs on each node, and this one shows 0"
    error = json.loads((run / "outcome.json").read_text())["error"]
    assert (error["kind"], fault in error["message"]) == ("MachineError", True), paced.told(run)
    assert fault in (run / f"slurm/job-{job}.log").read_text()
    assert fault in paced.launch("status", "short").out
    assert f"node-1 | error: node n2: {fault}" in paced.launch("logs", "short").out


SCRIPT = """
import pathlib, signal, sys, time
seen = pathlib.Path("seen")
if seen.exists():
    sys.exit(0)
def end(number, frame):
    seen.write_text(str(number))
    sys.exit(75)
signal.signal(signal.SIGTERM, end)
pathlib.Path("begun").touch()
time.sleep(600)
"""


@pytest.mark.exhaustive
def test_a_script_is_stopped_before_its_time_is_up_and_started_again(
    tmp_path: Path, launch: Launch, slurm: Cluster, paced: Paced
) -> None:
    work = tmp_path / "script"
    work.mkdir()
    (work / "long.py").write_text(SCRIPT)
    done = launch("submit", "--cpu", "1", "--time", "1min", "--name", "script", "--json", "long.py", cwd=work)
    assert done.status == 0, done.err
    run, job = Path(done.document["run_dir"]), done.document["job"]
    paced.wait(run, (work / "begun").exists, "the script")
    slurm.run("scontrol", "update", f"JobId={job}", "EndTime=now+14")
    end = paced.wait_for_end(run, "continue")
    assert (end["cause"], end["exit_code"]) == ("limit", 75), paced.told(run)
    paced.wait_for_end(run, "finish")
    assert (work / "seen").read_text() == str(int(signal.SIGTERM))
    assert len([e for e in read_jobs(run) if e["event"] == "started"]) == 2


@pytest.mark.exhaustive
def test_two_nodes_are_preempted_and_go_on(paced: Paced, slurm: Cluster) -> None:
    whole = paced.launch(
        "train", "own.yaml", *SETTINGS, "--name", "four", "--cpu", "4", "--json", cwd=paced.folder
    )
    assert whole.status == 0, whole.err
    run, _ = paced.submit("--nodes", "2", "--time", "10min")
    paced.wait_for_step(run, 60)
    other = slurm.preempting_job()
    end = paced.wait_for_end(run, "continue")
    assert (end["cause"], end["exit_code"]) == ("preempted", 75), paced.told(run)
    slurm.wait_for(other, "RUNNING")
    slurm.cancel(other)
    paced.pace(0)
    paced.check_done(run, whole.document)


STOPS = """
import os, signal
calls = []
def stops(output, target):
    calls.append(1)
    if os.environ.get("RANK") == "3" and len(calls) == 20:
        os.kill(os.getpid(), signal.SIGSTOP)
    return nn.functional.cross_entropy(output, target, reduction="none")
"""


@pytest.mark.exhaustive
def test_a_hang_on_the_other_node_is_named(paced: Paced, slurm: Cluster) -> None:
    (paced.folder / "own.py").write_text((paced.folder / "own.py").read_text() + STOPS)
    run, _ = paced.submit("loss.use=./own.py:stops", "--nodes", "2", "--hang-timeout", "6", name="stops")
    end = paced.wait_for_end(run, "give up")
    assert (end["cause"], end["exit_code"]) == ("crashed", 5), paced.told(run)
    outcome = json.loads((run / "outcome.json").read_text())
    assert outcome["error"]["message"].startswith("rank 3 of 4 hangs: it is stopped (SIGSTOP or the like)")

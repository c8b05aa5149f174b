"""The sandbox is a real SLURM, and its end leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest

from lockstep.data.common.processes import process_start_time
from lockstep.launcher.sandbox import start as sandbox
from tests.helpers.slurm.cluster import Cluster, start_cluster, wait_until


def listeners(of: set[int]) -> list[str]:
    every = [c for c in psutil.net_connections("inet") if c.status == psutil.CONN_LISTEN and c.pid in of]
    return [f"{c.laddr.ip}:{c.laddr.port}" for c in every]


def of_folder(folder: Path) -> list[str]:
    """Processes that name the folder anywhere: in arguments, environment, or an open file."""
    found = []
    for process in psutil.process_iter():
        try:
            texts = [*process.cmdline(), *process.environ().values(), *(f.path for f in process.open_files())]
        except (psutil.Error, OSError):
            continue
        if process.pid != os.getpid() and any(str(folder) in text for text in texts):
            found.append(f"{process.pid} {process.name()}")
    return found


def test_both_nodes_run_one_step_and_gpus_are_given(slurm: Cluster) -> None:
    where = slurm.run("srun", "-N2", "--ntasks-per-node=1", "sh", "-c", "echo $SLURMD_NODENAME $SLURM_PROCID")
    assert sorted(where.split("\n")) == ["", "n1 0", "n2 1"]
    gpus = slurm.run("srun", "-N1", "--gpus-per-node=2", "sh", "-c", "echo $CUDA_VISIBLE_DEVICES")
    assert gpus == "0,1\n"
    refused = slurm.run("sbatch", "--test-only", "--gpus-per-node=3", "--wrap=true", check=False)
    assert "to start" not in refused


def test_the_daemons_listen_on_the_loopback_alone(slurm: Cluster) -> None:
    addresses = listeners({process.pid for process in slurm.record.daemons.values()})
    assert len(addresses) == 3
    assert {address.partition(":")[0] for address in addresses} == {"127.0.0.1"}


def test_arrays_dependencies_signals_and_failures(slurm: Cluster) -> None:
    array = slurm.sbatch("echo task $SLURM_ARRAY_TASK_ID; exit $((SLURM_ARRAY_TASK_ID - 1))", "--array=1-2")
    after = slurm.sbatch("echo after", f"--dependency=afterany:{array}")
    told = slurm.sbatch("trap 'echo told; exit 3' USR1; echo ready; while :; do sleep 0.1; done")
    slurm.wait_for_log(told, "ready")
    slurm.run("scancel", "--batch", "--signal=USR1", told)
    assert slurm.wait_for(told) == "FAILED"
    assert (slurm.log(told), slurm.details(told)["ExitCode"]) == ("ready\ntold\n", "3:0")
    assert slurm.wait_for(after) == "COMPLETED"
    assert [slurm.wait_for(f"{array}_{k}") for k in (1, 2)] == ["COMPLETED", "FAILED"]
    assert [slurm.log(f"{array}_{k}") for k in (1, 2)] == ["task 1\n", "task 2\n"]


@pytest.mark.exhaustive
def test_preemption_tells_steps_at_once_requeues_in_low_and_cancels_in_cancel(slurm: Cluster) -> None:
    step = "trap 'echo TERM' TERM; echo attempt $SLURM_RESTART_COUNT; while :; do sleep 0.1; done"
    script = f'srun sh -c "{step}"'.replace("$SLURM", "\\$SLURM")
    low = slurm.sbatch(script, "-N1", "-w", "n1", "--exclusive", "--partition=low")
    cancelled = slurm.sbatch(script, "-N1", "-w", "n2", "--exclusive", "--partition=cancel")
    for job in (low, cancelled):
        slurm.wait_for_log(job, "attempt")
    filler = slurm.preempting_job()
    slurm.wait_for_log(low, "TERM")
    slurm.wait_for_log(cancelled, "TERM")
    slurm.wait_for(filler, "RUNNING")  # when the ten seconds of grace are over
    assert slurm.wait_for(cancelled) == "PREEMPTED"
    slurm.wait_for(low, "PENDING")
    assert slurm.details(low)["Restarts"] == "1"


@pytest.mark.exhaustive
def test_a_time_limit_and_its_warning(slurm: Cluster) -> None:
    job = slurm.sbatch(
        "trap 'echo warned' USR1; trap 'echo ending; exit 9' TERM; while :; do sleep 0.1; done",
        "--time=1",
        "--signal=B:USR1@30",
    )
    assert slurm.wait_for(job, seconds=240) == "TIMEOUT"
    assert slurm.log(job).splitlines()[0] == "warned"
    assert "ending" in slurm.log(job)


@pytest.mark.exhaustive
def test_a_lost_node_requeues_its_job_and_comes_back(slurm: Cluster) -> None:
    job = slurm.sbatch("echo attempt; exec sleep 600", "-N2", "--exclusive", "--requeue")
    slurm.wait_for_log(job, "attempt")
    slurm.kill_node("n2")
    slurm.wait_for(job, "PENDING", "CONFIGURING")
    slurm.cancel(job)
    slurm.start_nodes()
    assert slurm.node_states() == {"n1": "idle", "n2": "idle"}


DETACHED = """(setsid env -i /bin/sleep 987 </dev/null >/dev/null 2>&1 &)
trap '' TERM
sleep 0.3
echo on
sleep 600"""


def _own(tmp_path: Path) -> Cluster:
    own = start_cluster(tmp_path)
    job = own.sbatch(DETACHED.replace("987", str(os.getpid() + 10**6)), "-N2")
    own.wait_for_log(job, "on")
    return own


def _detached() -> list[int]:
    mine = str(os.getpid() + 10**6)
    every = psutil.process_iter(["cmdline", "status"])
    return [
        p.pid for p in every if mine in (p.info["cmdline"] or []) and p.info["status"] != psutil.STATUS_ZOMBIE
    ]


def test_its_end_leaves_no_process_no_port_and_no_folder(tmp_path: Path) -> None:
    own = _own(tmp_path)
    ports = listeners({process.pid for process in own.record.daemons.values()})
    assert len(ports) == 3
    assert {psutil.Process(pid).ppid() for pid in _detached()} == {
        own.record.keeper.pid
    }  # no child of its job any more
    assert len(of_folder(own.folder)) >= 7  # four daemons, their keeper, a step and its shell
    assert sandbox.down(own.folder)
    assert (of_folder(own.folder), _detached(), own.folder.exists()) == ([], [], False)
    still = [f"{c.laddr.ip}:{c.laddr.port}" for c in psutil.net_connections("inet") if c.status == "LISTEN"]
    assert set(ports) & set(still) == set()
    assert not sandbox.down(own.folder)


@pytest.mark.parametrize(
    "killed", [["keeper"], ["slurmctld", "n1"], ["keeper", "munged", "slurmctld", "n1", "n2"]]
)
def test_what_is_left_of_a_killed_one_is_ended_too(tmp_path: Path, killed: list[str]) -> None:
    own = _own(tmp_path)
    processes = own.record.living()
    for name in killed:
        os.kill(processes[name].pid, signal.SIGKILL)
    assert of_folder(own.folder)
    assert sandbox.down(own.folder)
    assert (of_folder(own.folder), own.folder.exists()) == ([], False)
    for pid in _detached():  # without a keeper, nobody can tell whose it was: SLURM itself loses it
        assert "keeper" in killed
        os.kill(pid, signal.SIGKILL)


def test_a_cluster_ends_with_the_process_that_it_is_for(tmp_path: Path) -> None:
    reason = sandbox.why_unavailable()
    if reason:
        pytest.skip(reason)
    guardian = subprocess.Popen(["sleep", "600"])
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    sandbox.up(folder, guardian=guardian.pid)
    guardian.kill()
    guardian.wait()
    wait_until(lambda: not folder.exists(), "the keeper ends")
    wait_until(lambda: not of_folder(folder), f"everything ends: {of_folder(folder)}")


def test_only_its_own_processes_are_ever_ended(tmp_path: Path) -> None:
    """A record from before a restart of the machine, or of numbers that others have by now, ends nobody."""
    own = start_cluster(tmp_path)
    bystander = subprocess.Popen(["sleep", "600"], env={**os.environ, "SLURM_CONF": str(own.conf)})
    record = json.loads((own.folder / "sandbox.json").read_text())
    assert sandbox.down(own.folder)
    folder = own.folder
    folder.mkdir()
    (folder / sandbox.LOCK).touch()
    for boot, started in ((record["boot"], 1), ("another", process_start_time(bystander.pid))):
        stranger = {"pid": bystander.pid, "started": started}
        forged = {**record, "boot": boot, "keeper": stranger, "daemons": {"n1": stranger}}
        (folder / "sandbox.json").write_text(json.dumps(forged))
        assert sandbox.down(folder)
        assert bystander.poll() is None
        folder.mkdir()
        (folder / sandbox.LOCK).touch()
    assert sandbox.down(folder)
    bystander.kill()
    bystander.wait()

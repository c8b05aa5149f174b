"""The one step of a job: a supervisor on each of its nodes, started by srun and left to end by itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ..slurm import JobSpec, JobStart, slurm_client, slurm_folder
from ..worlds import srun_environment

_OTHERS_SECONDS = 120  # what the other nodes get once one has ended: W&B takes up to 60 s for the last rows


def start_step(folder: Path, job: JobSpec, start: JobStart) -> subprocess.Popen[bytes]:
    """Start the nodes' supervisors; srun ends when they have, with the largest of their statuses.

    srun does not kill the others when one ends badly: node 0 is to see that itself, take the cause down and end
    with its own status. A SIGTERM that reaches srun with the batch script makes it wait for KillWait + 2 s, no
    longer (measured: the step had its own SIGTERM and went on to its checkpoint meanwhile).
    """
    logs = slurm_folder(folder) / f"job-{start}"
    logs.mkdir(mode=0o700, exist_ok=True)
    return subprocess.Popen(
        _command(folder, job, logs),
        stdin=subprocess.DEVNULL,
        env=srun_environment({**slurm_client.environment(), **_own()}),
        start_new_session=True,
    )


def _own() -> dict[str, str]:
    """Return the variables that tell srun the job whose allocation it uses."""
    return {name: value for name, value in os.environ.items() if name.startswith("SLURM")}


def _command(folder: Path, job: JobSpec, logs: Path) -> list[str]:
    """Return srun's command, which restates what srun would not inherit, or would inherit from somewhere else."""
    cores = [f"--cpus-per-task={job.cores}"] if job.cores else []
    container, inside = _container(folder, job)
    output = f"{logs}/".replace("%", "%%") + "node-%n.log"
    return [
        "srun",
        f"--nodes={job.nodes}",
        f"--ntasks={job.nodes}",
        "--ntasks-per-node=1",
        *cores,
        "--cpu-bind=none",  # ranks are bound by their own supervisor, which knows the GPUs' NUMA nodes
        *(["--gpu-bind=none"] if job.gpus else []),
        "--mpi=none",
        "--kill-on-bad-exit=0",
        f"--wait={_OTHERS_SECONDS}",
        "--unbuffered",
        "--open-mode=append",
        f"--output={output}",
        *container,
        *inside,
        job.python or sys.executable,
        "-P",
        "-m",
        "lockstep.launcher.job.node_supervisor",
        str(folder),
    ]


def _container(folder: Path, job: JobSpec) -> tuple[list[str], list[str]]:
    """Return srun's options for a container and the command's prefix; the batch supervisor itself stays outside."""
    if not job.container:
        return [], []
    image, mounts = job.container["image"], job.container.get("mounts", "")
    every = ",".join(part for part in (f"{folder}:{folder}", mounts) if part)
    if job.container.get("runtime") == "apptainer":
        gpus = ["--nv"] if job.gpus else []
        return [], ["apptainer", "exec", *gpus, f"--bind={every}", image]
    return [f"--container-image={image}", f"--container-mounts={every}"], []

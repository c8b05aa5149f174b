"""One node's supervisor in a SLURM job: one task of the job's only step.

It is its own canary: every process of a step gets SLURM's SIGTERM as soon as a grace begins, while the batch script
hears nothing before the grace is over (measured with 22.05: 10 s of grace, SIGTERM at once here, none there).
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from ...data.common import UsageError
from ..config import resolve
from ..console import print_messages, run_with_failure_card
from ..machine import read_machine
from ..options import NodeOptions
from ..script import ScriptRequest
from ..script import run as run_script
from ..slurm import JobSpec, current_job_start, read_job
from ..train import SubmittedRun, TrainRequest, training_run
from ..worlds import rank_environment
from .allocation_check import verify
from .time_limit import TimeLimitWatch


def main(argv: list[str]) -> None:
    """Supervise this node's part of the run in ``argv[0]``, and end with the status of the run."""
    run_with_failure_card(lambda: sys.exit(serve(Path(argv[0]))))


def serve(folder: Path) -> int:
    """Train or run what the job says; return the exit status.

    Raises:
        MachineError: this node has less than the job asked for.
    """
    job, start = read_job(folder), current_job_start()
    if job is None or start is None:
        raise UsageError(
            f"{folder}: no job of SLURM", "`launch submit` makes one, and SLURM starts this in it"
        )
    nodes = NodeOptions(job.nodes, int(os.environ.get("SLURM_NODEID", "0")))
    node = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
    environment = rank_environment(os.environ)
    os.environ.clear()
    os.environ.update(environment)
    print_messages([f"{job.run}: job {start.job}, start {start.restart + 1}, on node {node}"])
    print_messages(verify(job, node, read_machine()))
    if Path(job.folder).is_dir():
        os.chdir(job.folder)
    return (_train if job.kind == "train" else _run)(folder, job, start.job, nodes)


def _train(folder: Path, job: JobSpec, number: str, nodes: NodeOptions) -> int:
    resolved = replace(resolve(str(folder / "config.yaml"), []), name=folder.name, base=Path(job.base))
    time_limit = TimeLimitWatch(number, folder)
    time_limit.start()
    submitted = SubmittedRun(folder, job.wandb_id, time_limit.keep)
    request = TrainRequest(
        job.gpus,
        job.cpu,
        json=False,
        name=folder.name,
        nodes=nodes,
        supervision=job.supervision,
        submitted=submitted,
    )
    try:
        return training_run.train(resolved, request)
    finally:
        time_limit.close()


def _run(folder: Path, job: JobSpec, number: str, nodes: NodeOptions) -> int:
    time_limit = TimeLimitWatch(number, folder, job.supervision.grace)
    time_limit.start()
    try:
        return run_script(
            ScriptRequest(
                job.program,
                job.gpus,
                job.cpu,
                folder.name,
                nodes=nodes,
                supervision=job.supervision,
                folder=folder,
            )
        )
    finally:
        time_limit.close()


if __name__ == "__main__":
    main(sys.argv[1:])

"""The SLURM job that this process is in: which start of it, what SLURM says of it, and what may be asked for it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import client as slurm_client
from .job_identity import is_job_of_run

_KEPT = (
    "SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_JOB_NAME", "SLURM_RESTART_COUNT", "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID", "SLURM_CLUSTER_NAME", "SLURM_WORKING_CLUSTER", "SLURM_JOB_PARTITION",
    "SLURM_JOB_ACCOUNT", "SLURM_SUBMIT_DIR", "SLURM_SUBMIT_HOST", "SLURM_TMPDIR", "SLURMD_NODENAME",
)  # fmt: skip
"""What says which job this is, and where; everything else would change what an inner srun or sbatch does."""
_OF_THE_STEP = ("SLURM_STEP_ID", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
"""What says how many cores this process has; read by ``cores.py``."""
_FOREIGN = re.compile(r"(SLURM|SRUN|SBATCH|SALLOC|SCANCEL|SQUEUE|SLURMD|PMI|PMIX|PMI2|OMPI|PALS|ALPS)_")
_RUNNING = (
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
    "STAGE_OUT",
    "RESIZING",
)


@dataclass(frozen=True)
class Start:
    """One start of a job: SLURM starts it again under the same number after a requeue."""

    job: str
    """``123``, or ``123_4`` of an array."""
    restart: int

    def __str__(self) -> str:
        return f"{self.job}.{self.restart}"


def current_job_start(environment: Mapping[str, str] = os.environ) -> Start | None:
    """The start of the job that this process belongs to; None outside one."""
    job = environment.get("SLURM_JOB_ID")
    if not job:
        return None
    if "SLURM_ARRAY_JOB_ID" in environment and "SLURM_ARRAY_TASK_ID" in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return Start(job, int(environment.get("SLURM_RESTART_COUNT") or 0))


def parse_start(text: str) -> Start | None:
    """What ``str`` of a start gave; None where it is none."""
    found = re.fullmatch(r"([0-9]+(?:_[0-9]+)?)\.([0-9]+)", text)
    return Start(found[1], int(found[2])) if found else None


def scrubbed(environment: Mapping[str, str], *, step: bool) -> dict[str, str]:
    """An environment without what a submitting shell, sbatch or srun left in it for some other job step.

    Args:
        environment: to take over.
        step: for the processes of a step, whose core counts stay; else for srun and sbatch, which get their
            whole environment on (``--export=NONE`` of the job would leave the step without PATH).
    """
    kept = (*_KEPT, *_OF_THE_STEP) if step else _KEPT
    rest = {name: value for name, value in environment.items() if name in kept or not _FOREIGN.match(name)}
    return rest if step else {**rest, "SLURM_EXPORT_ENV": "ALL"}


def details_of(run: Path, job: str) -> dict[str, str] | None:
    """What scontrol says of a run's job; None where SLURM has forgotten it, or gave its number to another's.

    Raises:
        SlurmError: SLURM could not be asked.
    """
    found = slurm_client.details(job)
    return found if found is not None and is_job_of_run(run, job, found.get("WorkDir", "")) else None


def is_active(job: str, run: Path | None = None) -> bool:
    """Whether SLURM still has processes of a job running, for all that it knows.

    Args:
        job: its number.
        run: whose job it has to be; None where the job need not have been submitted for a run.

    Raises:
        SlurmError: SLURM does not answer.
    """
    found = slurm_client.details(job) if run is None else details_of(run, job)
    return state_of(found) in _RUNNING


def state_of(details: Mapping[str, str] | None) -> str:
    """``RUNNING``, ``CANCELLED``, …; empty for a job that SLURM has forgotten."""
    return (details or {}).get("JobState", "").split("+", maxsplit=1)[0].partition(" ")[0]

"""The SLURM job that this process is in: which start of it, what SLURM says of it, and what may be asked for it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import slurm_client
from .job_identity import is_job_of_run

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
class JobStart:
    """One start of a job: SLURM starts it again under the same number after a requeue."""

    job: str
    """``123``, or ``123_4`` of an array."""
    restart: int

    def __str__(self) -> str:
        return f"{self.job}.{self.restart}"


def current_job_start(environment: Mapping[str, str] = os.environ) -> JobStart | None:
    """Return the start of the job that this process belongs to; None outside a job."""
    job = environment.get("SLURM_JOB_ID")
    if not job:
        return None
    if "SLURM_ARRAY_JOB_ID" in environment and "SLURM_ARRAY_TASK_ID" in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return JobStart(job, int(environment.get("SLURM_RESTART_COUNT") or 0))


def parse_start(text: str) -> JobStart | None:
    """Parse what ``str`` of a start returned; None for any other text."""
    found = re.fullmatch(r"([0-9]+(?:_[0-9]+)?)\.([0-9]+)", text)
    return JobStart(found[1], int(found[2])) if found else None


def details_of(run: Path, job: str) -> dict[str, str] | None:
    """Return scontrol's record of a run's job; None if SLURM has forgotten it or reused its number for another job.

    Raises:
        SlurmError: SLURM could not be asked.
    """
    found = slurm_client.details(job)
    return found if found is not None and is_job_of_run(run, job, found.get("WorkDir", "")) else None


def is_active(job: str, run: Path | None = None) -> bool:
    """Check whether, as far as SLURM knows, a job still has processes.

    Args:
        job: its number.
        run: whose job it has to be; None where the job need not have been submitted for a run.

    Raises:
        SlurmError: SLURM does not answer.
    """
    found = slurm_client.details(job) if run is None else details_of(run, job)
    return state_of(found) in _RUNNING


def state_of(details: Mapping[str, str] | None) -> str:
    """Return ``RUNNING``, ``CANCELLED``, …; empty for a job that SLURM has forgotten."""
    return (details or {}).get("JobState", "").split("+", maxsplit=1)[0].partition(" ")[0]

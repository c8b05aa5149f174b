"""Why an attempt in a SLURM job has ended: from its status, who stopped it, and what SLURM says of the job."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from ...data.common import STOPPED
from ...training.checkpoint import checkpoints_folder, newest_checkpoint_step
from ..runs import read_outcome, read_stop_reason
from ..slurm import JobSpec, state_of
from .continuation_policy import SHORT_SECONDS, EndCause, JobEnd
from .time_limit import TIME_LIMIT_REASON

_REFUSALS = (2, 6)  # usage or config; checkpoint or data damaged
_NOT_ITS_DOING = ("preempted", "requeued", "lost")
"""Ends that say nothing of a script: how soon they came was not up to it, and max_preemptions bounds them."""
_SIGNALLED = {128 + number for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)}


@dataclass(frozen=True)
class AttemptStart:
    """The state of a run when an attempt began."""

    restart: int
    """Which start of its job it is."""
    step: int
    """Of the newest checkpoint."""
    time: float
    """In seconds since the epoch."""


def classify_end(
    folder: Path,
    job: JobSpec,
    status: int,
    began: AttemptStart,
    *,
    heard: AbstractSet[int],
    details: Mapping[str, str],
) -> JobEnd:
    """Classify the end of an attempt.

    Args:
        folder: of the run.
        job: what was submitted.
        status: of the step.
        began: what was at its beginning.
        heard: signals that reached the batch script.
        details: of the job, as SLURM tells now.
    """
    cause = _cause(folder, job, status, heard, cause_from_slurm(details, began.restart))
    if job.kind == "train":
        return JobEnd(cause, status, newest_step(folder) > began.step)
    return JobEnd(cause, status, cause in _NOT_ITS_DOING or time.time() - began.time > SHORT_SECONDS)


def _cause(
    folder: Path, job: JobSpec, status: int, heard: AbstractSet[int], slurm: EndCause | None
) -> EndCause:
    outcome = read_outcome(folder) or {}
    if outcome.get("status") == "done" and outcome.get("exit_code") == status:
        return "done"
    if slurm is not None or outcome.get("status") == "cancelled":
        return slurm or "cancelled"
    by = read_stop_reason(folder)
    if by is not None and (outcome.get("status") == "stopped" or status in _SIGNALLED):
        return _stopped(by)  # with a checkpoint, or without one because there was no time
    if status == STOPPED:
        return "again"
    if heard or status in _SIGNALLED:
        return "signal"
    return "refused" if job.kind == "train" and status in _REFUSALS else "crashed"


def cause_from_slurm(details: Mapping[str, str], restart: int) -> EndCause | None:
    """Return what SLURM itself has done to the job; None while it simply runs.

    While a job ends, its state is COMPLETING, whatever ended it. What tells (measured with 22.05): a requeue, also
    after a preemption or the loss of a node, has counted the next start already; a preemption has its time; a time
    limit is the reason. What is left is scancel.

    Args:
        details: as scontrol shows them.
        restart: of the start that asks.
    """
    state = state_of(details)
    if int(details.get("Restarts", 0)) > restart:
        return "requeued"
    if details.get("PreemptTime", "None") not in ("None", "N/A", "Unknown"):
        return "preempted"
    if state == "TIMEOUT" or details.get("Reason") == "TimeLimit":
        return "limit"
    if state in ("NODE_FAIL", "BOOT_FAIL"):
        return "lost"
    return "cancelled" if state in ("CANCELLED", "COMPLETING") else None


def _stopped(by: str) -> EndCause:
    """Classify a stop by its origin: the clock, SLURM's warning before the time limit, another signal, or the user."""
    if by == TIME_LIMIT_REASON or by.startswith("SIGUSR1"):
        return "limit"
    return "signal" if by.startswith("SIG") else "asked"


def newest_step(folder: Path) -> int:
    """Return the step of a run's newest checkpoint; 0 without one."""
    return newest_checkpoint_step(checkpoints_folder(folder), 0)

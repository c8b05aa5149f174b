"""Cancelling the jobs of a submitted run, from any machine that reaches SLURM."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...data.common import UsageError
from ..console import best_effort, print_messages
from ..slurm import note_job
from .slurm_status import is_submitted, is_waiting, live_jobs, query_jobs_or_raise

if TYPE_CHECKING:
    from ..slurm import QueuedJob


def cancel_pending_jobs(folder: Path, *, why: str) -> list[str]:
    """Cancel the jobs of a run that have not begun, so that nothing follows the current one.

    Args:
        folder: of the run.
        why: the reason, for the job log.

    Returns:
        Their numbers.

    Raises:
        MachineError: SLURM could not be asked, or refused.
    """
    from ..slurm import slurm_client

    waiting = [
        job.id for job in live_jobs(folder, query_jobs_or_raise(folder.name, [folder])) if is_waiting(job)
    ]
    for job in waiting:
        slurm_client.cancel(job)
        with best_effort():
            note_job(folder, "cancelled", job, why=why)
    return waiting


def cancel_jobs(folder: Path) -> list[QueuedJob]:
    """Cancel every job of a run, waiting ones first, since one of them would begin; return what they were.

    Raises:
        MachineError: SLURM could not be asked, or refused.
    """
    from ..slurm import slurm_client

    jobs = live_jobs(folder, query_jobs_or_raise(folder.name, [folder]))
    for job in sorted(jobs, key=lambda job: not is_waiting(job)):
        slurm_client.cancel(job.id)
        with best_effort():
            note_job(folder, "cancelled", job.id, why="launch cancel")
    if jobs:
        many = "jobs" if len(jobs) > 1 else "job"
        print_messages([f"{folder.name}: {many} {', '.join(job.id for job in jobs)} cancelled"])
    return jobs


def refuse_live_jobs(folder: Path, otherwise: str) -> None:
    """Refuse to act on a run while SLURM has a job of it.

    Args:
        folder: of the run.
        otherwise: what can be done instead of ending the job.

    Raises:
        UsageError: a job of it waits or runs.
        MachineError: SLURM does not answer.
    """
    if live := live_jobs(folder, query_jobs_or_raise(folder.name, [folder])):
        raise UsageError(
            f"{folder.name} has job {live[0].id}, which is {live[0].state}",
            f"end it first with `launch stop {folder.name}`, {otherwise}",
        )


def refuse_if_queued(folder: Path) -> None:
    """Refuse to train a submitted run on this machine while SLURM has a job of it.

    Raises:
        UsageError: a job of it waits or runs.
        MachineError: SLURM does not answer.
    """
    if not is_submitted(folder) or not (folder / "spec.json").is_file():
        return
    from ..slurm import has_slurm

    if has_slurm():
        refuse_live_jobs(folder, "or let SLURM continue it")
        print_messages(
            [f"note: {folder.name} was submitted, has no job in SLURM's queue, and now continues here"]
        )
    else:
        print_messages(
            [f"note: {folder.name} was submitted; whether SLURM still has a job of it cannot be asked here"]
        )

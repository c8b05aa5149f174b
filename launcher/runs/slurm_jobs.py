"""What people ask of a run that SLURM has: its jobs are ended by SLURM, from any machine that reaches it."""

from __future__ import annotations

from pathlib import Path

from ...data.common import UsageError
from ..console import best_effort, say
from ..slurm import note_job
from .slurm_status import asked, is_submitted, is_waiting, live_jobs


def withdraw(folder: Path, *, why: str) -> list[str]:
    """Cancel the jobs of a run that have not begun, so that nothing goes on after the present one.

    Args:
        folder: of the run.
        why: who asked, for the job log.

    Returns:
        Their numbers.

    Raises:
        MachineError: SLURM could not be asked, or refused.
    """
    from ..slurm import slurm_client

    waiting = [job.id for job in live_jobs(folder, asked(folder.name, [folder])) if is_waiting(job)]
    for job in waiting:
        slurm_client.cancel(job)
        with best_effort():
            note_job(folder, "cancelled", job, why=why)
    return waiting


def cancel(folder: Path) -> bool:
    """Cancel every job of a run, those that wait first, or one of them would begin; whether there was any.

    Raises:
        MachineError: SLURM could not be asked, or refused.
    """
    from ..slurm import slurm_client

    jobs = live_jobs(folder, asked(folder.name, [folder]))
    for job in sorted(jobs, key=lambda job: not is_waiting(job)):
        slurm_client.cancel(job.id)
        with best_effort():
            note_job(folder, "cancelled", job.id, why="launch cancel")
    if jobs:
        many = "jobs" if len(jobs) > 1 else "job"
        say([f"{folder.name}: {many} {', '.join(job.id for job in jobs)} cancelled"])
    return bool(jobs)


def refuse_live_jobs(folder: Path, otherwise: str) -> None:
    """Go on only where SLURM has no job of a run.

    Args:
        folder: of the run.
        otherwise: what can be done instead of ending the job.

    Raises:
        UsageError: a job of it waits or runs.
        MachineError: SLURM does not answer.
    """
    if live := live_jobs(folder, asked(folder.name, [folder])):
        raise UsageError(
            f"{folder.name} has job {live[0].id}, which is {live[0].state}",
            f"end it first with `launch stop {folder.name}`, {otherwise}",
        )


def refuse_if_queued(folder: Path) -> None:
    """Before a run is trained on this machine: one that was submitted may still be SLURM's.

    Raises:
        UsageError: a job of it waits or runs.
        MachineError: SLURM does not answer.
    """
    if not is_submitted(folder) or not (folder / "spec.json").is_file():
        return
    from ..slurm import has_slurm

    if has_slurm():
        refuse_live_jobs(folder, "or let SLURM go on with it")
        say([f"note: {folder.name} was submitted, has no job in SLURM's queue, and now goes on here"])
    else:
        say([f"note: {folder.name} was submitted; whether SLURM still has a job of it cannot be asked here"])

"""``launch stop`` and ``cancel`` of a sweep that SLURM has: all of its points at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ...data.common import LockstepError, MachineError
from ..console import best_effort, print_messages
from ..runs import (
    explain_slurm_failure,
    has_stopped,
    is_run,
    is_waiting,
    live_jobs,
    query_jobs,
    query_jobs_or_raise,
    record_cancellation,
    wait_until,
    write_request,
)
from ..slurm import note_job
from .sweep_folder import Sweep, overall, points_of

if TYPE_CHECKING:
    from ..slurm import QueuedJob

_EVERY_SECONDS = 1.0  # each look is a question to everybody's queue
_CANCEL_SECONDS = 120.0


def cancel_sweep(sweep: Sweep) -> int:
    """End every point at once, and all jobs that would continue one; return the exit status.

    Raises:
        MachineError: SLURM could not be asked, refused, or has not done it.
    """
    points = _points(sweep)
    jobs = _jobs(sweep, points)
    begun = [point for point, found in jobs.items() if not all(map(is_waiting, found))]
    for point in begun:  # a supervisor that gets SIGTERM would write a checkpoint first
        write_request(point, "cancel")
    _withdraw(jobs, "launch cancel", waiting=True)  # first, or one of them would begin
    _withdraw(jobs, "launch cancel", waiting=False)
    if not wait_until(lambda: _are_over(points), _CANCEL_SECONDS, _EVERY_SECONDS):
        raise MachineError(
            f"{sweep.folder.name}: SLURM has not ended all of its jobs within {_CANCEL_SECONDS:g} s",
            f"`launch status {sweep.folder.name}` says more",
        )
    for point in jobs:
        record_cancellation(point, anew=point not in begun)
    return _tell(sweep, jobs, "cancelled")


def stop_sweep(sweep: Sweep, wait: float) -> int:
    """Let every point that runs write its checkpoint and end, and withdraw what waits; the exit status.

    Raises:
        LockstepError: a point has not ended within ``wait`` seconds.
        MachineError: SLURM could not be asked, or refused.
    """
    points = _points(sweep)
    jobs = _jobs(sweep, points)
    running = [point for point, found in jobs.items() if not all(map(is_waiting, found))]
    for point in running:
        write_request(point, "stop")
    with explain_slurm_failure(is_asked=bool(running)):
        _withdraw(jobs, "launch stop", waiting=True)
    late = list(running)

    def ended() -> bool:
        late[:] = [point for point in late if not has_stopped(point)]
        return not late

    if not wait_until(ended, wait):
        raise LockstepError(
            f"{sweep.folder.name}: {', '.join(point.name for point in late)} not ended within {wait:g} s",
            f"wait longer with --wait, or end them at once with `launch cancel {sweep.folder.name}`",
        )
    return _tell(sweep, jobs, "stopped")


def _points(sweep: Sweep) -> list[Path]:
    return [folder for folder in map(sweep.run, range(len(sweep.points))) if is_run(folder)]


def _jobs(sweep: Sweep, points: list[Path]) -> dict[Path, list[QueuedJob]]:
    """Return the jobs of each point that has any."""
    answer = query_jobs_or_raise(sweep.folder.name, points)
    found = {point: live_jobs(point, answer) for point in points}
    return {point: jobs for point, jobs in found.items() if jobs}


def _are_over(points: list[Path]) -> bool:
    answer = query_jobs(points)
    return not answer.problem and not any(live_jobs(point, answer) for point in points)


def _withdraw(jobs: Mapping[Path, list[QueuedJob]], why: str, *, waiting: bool) -> None:
    from ..slurm import slurm_client

    chosen = [(point, job.id) for point, found in jobs.items() for job in found if is_waiting(job) == waiting]
    if chosen:
        slurm_client.cancel(*(job for _, job in chosen))
    for point, job in chosen:
        with best_effort():
            note_job(point, "cancelled", job, why=why)


def _tell(sweep: Sweep, jobs: Mapping[Path, list[QueuedJob]], what: str) -> int:
    name = sweep.folder.name
    if not jobs:
        print_messages([f"{name} is not running: it is {overall(points_of(sweep))}"])
        return 0
    count = len(jobs)
    print_messages(
        [f"{name}: {count} point{'s' * (count > 1)} {what}; resume with `launch sweep {name} --submit`"]
    )
    return 0

"""``launch cancel``, ``stop`` and ``checkpoint``: requests to a run that another process has."""

from __future__ import annotations

import os
import select
import signal
import time
from functools import partial
from pathlib import Path

from ...data.common import LockstepError, MachineError, Process, UsageError, descendants
from ...training.checkpoint import checkpoints_folder, newest_checkpoint_step
from ..console import print_messages
from ..process import LockOwner, is_held, read_owner
from ..runs import (
    ANY_RUN,
    LOCK,
    Status,
    cancel_jobs,
    cancel_pending_jobs,
    clear_requests,
    explain_slurm_failure,
    find_run,
    has_stopped,
    is_request_pending,
    is_submitted,
    is_sweep,
    is_waiting,
    live_jobs,
    merge_job_status,
    query_jobs,
    read_status,
    record_cancellation,
    wait_until,
    write_request,
)
from ..sweep import Sweep, cancel_sweep, overall, points_of, read_sweep, stop_sweep

_GONE_SECONDS = 5.0
_CANCEL_SECONDS = 60.0  # SLURM gives a job KillWait, 30 s by default, between SIGTERM and SIGKILL
_TOLD_SECONDS = 2.0  # between taking the lock and saying who has it


def cancel_run(name: str, grace: float) -> int:
    """End a run at once; the exit status.

    Args:
        name: of the run.
        grace: seconds between SIGTERM and SIGKILL.

    Raises:
        MachineError: it runs on another machine, or cannot be ended from here.
    """
    folder = find_run(name, ANY_RUN)
    if (sweep := _submitted_sweep(folder)) is not None:
        return cancel_sweep(sweep)
    if is_submitted(folder) and _cancel_jobs(folder):
        return 0
    if not is_held(folder / LOCK):
        return _say_over(folder)
    write_request(folder, "cancel")
    owner = _owner(folder, grace)
    if owner is None:
        record_cancellation(folder)
        print_messages([f"{folder.name} was cancelled"])
        return 0
    below = descendants(owner.pid)
    how = "SIGTERM" if _end(owner, grace) else f"SIGKILL, after {grace:g} s of grace"
    left = [process.pid for process in below if not _is_gone(process)]
    if left or not wait_until(lambda: not is_held(folder / LOCK), _GONE_SECONDS):
        raise MachineError(
            f"{folder.name}: process {owner.pid} was ended by {how}, but something of it lives on"
            + (f": {', '.join(map(str, left))}" if left else ""),
            "it may be in a call to a device or a file system that does not return; look at it with ps",
        )
    record_cancellation(folder)
    print_messages([f"{folder.name} was cancelled: process {owner.pid} was ended by {how}"])
    return 0


def stop_run(name: str, wait: float) -> int:
    """Ask a run to write a checkpoint and end, and wait until it has; the exit status.

    Raises:
        LockstepError: it has not within ``wait`` seconds.
    """
    folder = find_run(name, ANY_RUN)
    if (sweep := _submitted_sweep(folder)) is not None:
        return stop_sweep(sweep, wait)
    if is_submitted(folder):
        return _stop_jobs(folder, wait)
    if not is_held(folder / LOCK):
        return _say_over(folder)
    write_request(folder, "stop")
    if not wait_until(lambda: not is_held(folder / LOCK), wait):
        raise _late(folder, "ended", wait)
    return _say_stopped(folder)


def _submitted_sweep(folder: Path) -> Sweep | None:
    found = read_sweep(folder) if is_sweep(folder) else None
    return found if found is not None and found.slurm else None


def _stop_jobs(folder: Path, wait: float) -> int:
    """Make a running job write its checkpoint, and cancel one that waits, so that nothing continues the run."""
    runs = is_held(folder / LOCK) or _runs(folder)
    if runs:
        write_request(folder, "stop")
    with explain_slurm_failure(is_asked=runs):
        withdrawn = cancel_pending_jobs(folder, why="launch stop")
    if withdrawn:
        on = "" if runs else f"; resume it with `launch resume {folder.name}`"
        print_messages([f"{folder.name}: job {', '.join(withdrawn)} was waiting, and is withdrawn{on}"])
    if runs and not wait_until(lambda: has_stopped(folder), wait):
        raise _late(folder, "ended", wait)
    return _say_stopped(folder) if runs else 0 if withdrawn else _say_over(folder)


def _runs(folder: Path) -> bool:
    """Tell whether SLURM runs a job of it, whose lock may not be there yet, or not be seen from here."""
    return _read_status(folder).status == "running"


def _read_status(folder: Path) -> Status:
    """Read a run's status as ``launch status`` shows it."""
    return merge_job_status(read_status(folder), query_jobs([folder]))


def _cancel_jobs(folder: Path) -> bool:
    """Cancel the run's jobs and wait until they are gone; False where SLURM had none."""
    write_request(folder, "cancel")  # a supervisor that gets SIGTERM would write a checkpoint first
    jobs = cancel_jobs(folder)
    if not jobs:
        if not is_held(folder / LOCK):
            clear_requests(folder)
        return False
    if not wait_until(lambda: not live_jobs(folder, query_jobs([folder])), _CANCEL_SECONDS):
        raise MachineError(
            f"{folder.name}: SLURM has not ended its jobs within {_CANCEL_SECONDS:g} s",
            "`launch status` says more",
        )
    record_cancellation(folder, anew=all(map(is_waiting, jobs)))
    return True


def _say_stopped(folder: Path) -> int:
    if is_sweep(folder):
        return _say_over(folder)
    status = read_status(folder)
    trained = f", after {status.step:,} steps" if (folder / "spec.json").is_file() else ""
    words = f"{folder.name} is {status.status}{trained}"
    print_messages(
        [f"{words}; resume it with `launch resume {folder.name}`" if status.is_resumable else words]
    )
    if is_submitted(folder) and (code := status.outcome.get("exit_code")):
        print_messages(
            [f"SLURM will call its job FAILED, as it does with every exit status but 0; this is {code}"]
        )
    return 0


def checkpoint_run(name: str, wait: float) -> int:
    """Ask a run, or each point of a sweep that trains, for a checkpoint now, and wait for it; the exit status.

    Raises:
        UsageError: it does not run, or is a script.
        LockstepError: there is none within ``wait`` seconds.
    """
    folder = find_run(name, ANY_RUN)
    before = {run: _newest(run) for run in _trained_now(folder)}
    for run in before:
        write_request(run, "checkpoint")
    until = time.monotonic() + wait
    for run, step in before.items():
        left = max(0.0, until - time.monotonic())
        if not wait_until(partial(_has_answered, run, step), left):
            raise _late(run, "written a checkpoint", wait)
        _say_checkpoint(run, step)
    return 0


def _trained_now(folder: Path) -> list[Path]:
    """Return the run, or of a sweep the points that are being trained.

    Raises:
        UsageError: there is none, or it is a script.
    """
    if is_sweep(folder):
        sweep = read_sweep(folder)
        points = [run for run in map(sweep.run, range(len(sweep.points))) if is_held(run / LOCK)]
        if not points:
            raise UsageError(
                f"no point of the sweep {folder.name} is training now", "`launch status` says how they are"
            )
        return points
    if not is_held(folder / LOCK):
        raise _not_running(folder)
    if (folder / "run.json").is_file():
        raise UsageError(
            f"{folder.name} is a script: only it knows how to write its checkpoints",
            f"`launch stop {folder.name}` sends it SIGTERM",
        )
    return [folder]


def _has_answered(folder: Path, before: int) -> bool:
    return _newest(folder) > before or not is_held(folder / LOCK)


def _say_checkpoint(folder: Path, before: int) -> None:
    newest = _newest(folder)
    if newest == before:
        raise LockstepError(f"{folder.name} ended without another checkpoint", "`launch status` says how")
    print_messages([f"{folder.name} has a checkpoint of step {newest:,}"])


def _not_running(folder: Path) -> UsageError:
    """Explain why nobody can write a checkpoint; a job that has begun may not train yet."""
    status = _read_status(folder).status
    if status == "running":
        return UsageError(
            f"{folder.name} is not training yet, or not any more", "`launch status` says how it is"
        )
    hint = "it will train when its job begins" if status == "queued" else ""
    return UsageError(f"{folder.name} is not running: it is {status}", hint)


def _say_over(folder: Path) -> int:
    """Say that there is nothing to end, which is what was wanted."""
    status = overall(points_of(read_sweep(folder))) if is_sweep(folder) else _read_status(folder).status
    print_messages([f"{folder.name} is not running: it is {status}"])
    return 0


def _late(folder: Path, what: str, wait: float) -> LockstepError:
    taken = "has not noticed yet" if is_request_pending(folder) else "knows of it"
    return LockstepError(
        f"{folder.name} has not {what} within {wait:g} s; its launcher {taken}",
        f"wait longer with --wait, or end it at once with `launch cancel {folder.name}`",
    )


def _newest(folder: Path) -> int:
    return newest_checkpoint_step(checkpoints_folder(folder), -1)


def _owner(folder: Path, grace: float) -> LockOwner | None:
    """Find the process that has the run, if it may be signalled from here; None where it ends by the request alone.

    Raises:
        MachineError: it runs elsewhere, or does not say which process it is, and does not end.
    """
    found: list[LockOwner] = []

    def is_known() -> bool:
        found[:] = [owner for owner in [read_owner(folder / LOCK)] if owner is not None and owner.is_here]
        return bool(found)

    if wait_until(is_known, _TOLD_SECONDS):
        return found[0]
    if wait_until(lambda: not is_held(folder / LOCK), grace):
        return None
    owner = read_owner(folder / LOCK)
    if owner is None:
        raise MachineError(
            f"{folder.name} is held by a process that does not say which it is", "look for it with ps"
        )
    raise MachineError(
        f"{folder.name} is held by {owner}, which is not a process of this machine that runs now",
        f"run `launch cancel {folder.name}` on {owner.host}, or `launch stop {folder.name}` from here",
    )


def _end(owner: LockOwner, grace: float) -> bool:
    """Send SIGTERM, and SIGKILL if the process lives on after ``grace`` seconds; whether SIGTERM was enough.

    By pidfd: the number is checked against the start time after the process was opened, so no other can be hit.
    """
    try:
        process = os.pidfd_open(owner.pid)
    except ProcessLookupError:
        return True
    try:
        if not owner.is_here:
            return True
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if _ends(process, grace):
            return True
        signal.pidfd_send_signal(process, signal.SIGKILL)
        _ends(process, _GONE_SECONDS)
    except ProcessLookupError:
        return True
    except PermissionError as error:
        raise MachineError(
            f"{owner} cannot be signalled by this user", f"ask {owner.user} to cancel it"
        ) from error
    finally:
        os.close(process)
    return False


def _ends(process: int, wait: float) -> bool:
    return bool(select.select([process], [], [], wait)[0])


def _is_gone(process: Process) -> bool:
    """Wait until a process that has lost its launcher has ended, as it should; kill one that has not."""
    if wait_until(lambda: not process.is_alive, _GONE_SECONDS):
        return True
    process.send_signal(signal.SIGKILL)
    return wait_until(lambda: not process.is_alive, _GONE_SECONDS)

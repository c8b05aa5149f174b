"""The run lock: a run has one launcher at a time.

In a SLURM job whose node is lost, the launcher there may live on, and keep its lock, long after SLURM has started
the job again elsewhere: measured, minutes. The new start then puts a lock file of its own in the place of the old
one; the old launcher sees that within seconds, and ends. Until then the fence keeps its ranks from writing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ...data.common import RankLostError, UsageError, atomic_replacement, file_named_in_errors
from ...training.rank import UNREADABLE_SECONDS, unreadable
from ..console import print_messages
from ..process import LockOwner, current_owner, read_owner, try_lock, write_owner
from ..slurm import JobStart, current_job_start, is_active, parse_start
from .run_folder import LOCK
from .scale_requests import clear_scale_requests
from .stop_requests import clear_requests

_LOOK_SECONDS = 2.0
_BETWEEN_SECONDS = 0.05
_TRIES = 10


class RunLock:
    """A run lock that this process holds.

    Args:
        path: of the lock file.
        descriptor: the open and locked file.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._last_check = time.monotonic()
        self._unreadable_since: float | None = None

    def check(self) -> None:
        """Verify that the lock is still the run's; a new start of the same SLURM job may have replaced it.

        Raises:
            RankLostError: another process owns the run.
            MachineError: the run folder cannot be read, and that lasts.
        """
        while not self._verify_ownership():
            time.sleep(_BETWEEN_SECONDS)

    def tick(self) -> None:
        """Verify ownership every few seconds; may be called at any rate.

        Raises:
            RankLostError: another process owns the run.
            MachineError: the run folder cannot be read, and that lasts.
        """
        if time.monotonic() - self._last_check > _LOOK_SECONDS:
            self._last_check = time.monotonic()
            self._verify_ownership()

    def _verify_ownership(self) -> bool:
        """Verify ownership; False where the folder cannot be read just now, as while a file server fails over."""
        try:
            mine = _is_file_at(self._descriptor, self._path)
        except OSError as error:
            if not _is_gone(error, self._path):
                now = time.monotonic()
                self._unreadable_since = self._unreadable_since or now
                if now - self._unreadable_since > UNREADABLE_SECONDS:
                    raise unreadable(error) from error
                return False
            mine = False
        self._unreadable_since = None
        if not mine:
            owner = read_owner(self._path) or "another process"
            raise RankLostError(
                f"this attempt was given up: {owner} has taken the run over", "the run continues there"
            )
        return True


@contextmanager
def hold_run_lock(folder: Path) -> Iterator[RunLock]:
    """Hold the run's lock; the kernel releases it when the process ends, however it ends.

    Raises:
        UsageError: another process has the run.
    """
    path = folder / LOCK
    descriptor = _acquire(path)
    try:
        with file_named_in_errors(path):
            write_owner(descriptor, _current_owner(folder))
        clear_requests(folder)
        clear_scale_requests(folder)
        yield RunLock(path, descriptor)
    finally:
        os.close(descriptor)


def _current_owner(folder: Path) -> LockOwner:
    start = current_job_start()
    return replace(current_owner(folder.name), start_of_job=str(start) if start else "")


def _acquire(path: Path) -> int:
    """Lock the file at ``path``, which may be replaced while it is waited for."""
    for _ in range(_TRIES):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        taken = _try_lock(descriptor)
        if taken and _lies_at(descriptor, path):
            return descriptor
        owner = None if taken else read_owner(descriptor)
        os.close(descriptor)
        if taken:
            continue
        if owner is None or not _was_given_up(owner, current_job_start()):
            break
        print_messages(
            [f"note: {owner} lives on, though SLURM has given it up: the run is taken over from it"]
        )
        return _replace(path)
    name = path.parent.name
    raise UsageError(
        f"{path.parent}: {read_owner(path) or 'a process that has not said which'} trains this run",
        f"wait for it, or end it with `launch stop {name}` or `launch cancel {name}`",
    )


def _try_lock(descriptor: int) -> bool:
    """Try to lock; if the recorded owner does not run, `launch status` may have the lock, for an instant."""
    if try_lock(descriptor):
        return True
    owner = read_owner(descriptor)
    lives = owner is not None and owner.is_here and owner.pid != os.getpid()
    return not lives and try_lock(descriptor, _LOOK_SECONDS)


def _was_given_up(owner: LockOwner, mine: JobStart | None) -> bool:
    """Tell whether SLURM says that the holder's time is over: its job was started again, or has ended."""
    theirs = parse_start(owner.start_of_job)
    if mine is None or theirs is None:
        return False
    if theirs.job == mine.job:
        return theirs.restart < mine.restart
    return not is_active(theirs.job)


def _replace(path: Path) -> int:
    """Put a new file, locked before anybody can see it, in the place of the old one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    if not try_lock(descriptor):
        raise UsageError(f"{temporary}: another process has this file locked", "start the run again")
    with atomic_replacement(path, temporary):
        write_owner(descriptor, _current_owner(path.parent))
    return descriptor


def _is_gone(error: OSError, path: Path) -> bool:
    """Tell whether the file alone is not there, rather than the folder that it was in."""
    return isinstance(error, FileNotFoundError) and path.parent.is_dir()


def _lies_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file is the one at its path; False where there is none."""
    try:
        return _is_file_at(descriptor, path)
    except FileNotFoundError:
        return False


def _is_file_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file is still the one at its path; opened anew, since NFS caches names for a while."""
    mine = os.fstat(descriptor)
    other = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = os.fstat(other)
    finally:
        os.close(other)
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)

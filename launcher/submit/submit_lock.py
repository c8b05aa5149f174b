"""A run or sweep has one submitter at a time.

This lock is not the run's own: the job that is sent takes that one, maybe before its submitter has ended.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...data.common import UsageError
from ..console import print_messages
from ..process import current_owner, read_owner, try_lock, write_owner
from ..slurm import slurm_folder

_LOCK = "submit.lock"
_SOON_SECONDS = 1.0
_PATIENCE_SECONDS = 180.0  # a controller that is slow to answer has sbatch wait for a minute, twice


@contextmanager
def hold_submit_lock(folder: Path, patience: float = _PATIENCE_SECONDS) -> Iterator[None]:
    """Hold the lock on submitting this run or sweep; a second caller waits, and then sees what the first has sent.

    Args:
        folder: its.
        patience: seconds.

    Raises:
        UsageError: another process submits it all that time, or has withdrawn it with its folder.
    """
    try:
        path = slurm_folder(folder) / _LOCK
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise _gone(folder) from error
    try:
        _wait(folder, descriptor, patience)
        if not path.exists():
            raise _gone(folder)
        write_owner(descriptor, current_owner(folder.name))
        yield
    finally:
        os.close(descriptor)


def _wait(folder: Path, descriptor: int, patience: float) -> None:
    if try_lock(descriptor, min(patience, _SOON_SECONDS)):
        return
    who = read_owner(descriptor) or "another process"
    print_messages([f"note: {who} submits {folder.name}; waiting for it"])
    if not try_lock(descriptor, patience):
        raise UsageError(
            f"{folder.name}: {who} still submits it", f"`launch status {folder.name}` says what was sent"
        )


def _gone(folder: Path) -> UsageError:
    return UsageError(
        f"{folder}: its first submission failed, and has taken the folder away", "submit it again"
    )

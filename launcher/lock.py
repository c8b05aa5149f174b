"""A run has one launcher at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..data.errors import UsageError
from .owner import myself, read_owner, take, write_owner
from .requests import drop_requests
from .runs import LOCK

_LOOK_SECONDS = 2.0


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Be the only one that runs this run; the lock goes with the process, however it ends.

    Raises:
        UsageError: another process trains it.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _take(descriptor):
            owner = read_owner(descriptor) or "a process that has not said which"
            raise UsageError(
                f"{folder}: {owner} trains this run",
                f"wait for it, or end it with `launch stop {folder.name}` or `launch cancel {folder.name}`",
            )
        write_owner(descriptor, myself(folder.name))
        drop_requests(folder)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    """Where the process that says it has the lock does not run, it may be `launch status`, for an instant."""
    if take(descriptor):
        return True
    owner = read_owner(descriptor)
    lives = owner is not None and owner.is_here and owner.pid != os.getpid()
    return not lives and take(descriptor, _LOOK_SECONDS)

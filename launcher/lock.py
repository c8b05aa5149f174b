"""A run has one launcher at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..data.errors import UsageError
from .runs import LOCK


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Be the only one that trains this run on this machine; the lock goes with the process, however it ends.

    Raises:
        UsageError: another process trains it.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(descriptor, 32).decode(errors="replace").strip()
            raise UsageError(
                f"{folder}: process {owner or 'unknown'} trains this run", "wait for it, or stop it"
            ) from error
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)

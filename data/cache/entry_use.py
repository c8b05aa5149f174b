"""Which entries of the cache are in use: a process that has mapped an array of one holds a lock on it."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

FACTS = "facts.json"
"""The file that makes a folder an entry; its time is that of the last use."""

_held: dict[str, int] = {}


def hold_entry(folder: Path) -> None:
    """Keep an entry from being removed for as long as this process lives, or one that it forks.

    Where that cannot be, as on a file system without locks, its arrays are read all the same.
    """
    with suppress(OSError):
        status = (folder / FACTS).stat()
        key = f"{status.st_dev}:{status.st_ino}"
        if key in _held:
            return
        descriptor = os.open(folder / FACTS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        _held[key] = descriptor


def mark_used(folder: Path) -> None:
    """Note the time of use; of a cache that cannot be written there is none."""
    with suppress(OSError):
        os.utime(folder / FACTS)


def is_in_use(folder: Path) -> bool:
    """Tell whether a process has mapped an array of the entry."""
    with suppress(OSError), (folder / FACTS).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

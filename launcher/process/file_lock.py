"""File locks that the kernel releases when their holder dies.

``flock`` belongs to the open file: the lock goes with the last process that has it open, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path


def try_lock(descriptor: int, wait: float = 0.0) -> bool:
    """Lock an open file for this process alone; False if another one holds it for all of ``wait`` seconds."""
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        else:
            return True


def is_held(path: Path) -> bool:
    """Tell whether a process holds the lock; looking does not disturb one that takes it meanwhile."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False

"""File locks that the kernel releases when their holder dies.

``flock`` belongs to the open file: the lock goes with the last process that has it open, however that ends.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)
"""Of a file system without locks, as Lustre is by default."""


def try_lock(descriptor: int, wait: float = 0.0) -> bool:
    """Lock an open file for this process alone; False if another one holds it for all of ``wait`` seconds.

    Raises:
        OSError: the file system has no locks; the error names the file.
    """
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        except OSError as error:
            error.filename = str(Path(f"/proc/self/fd/{descriptor}").readlink())
            raise
        else:
            return True


def is_held(path: Path) -> bool:
    """Tell whether a process holds the lock; looking does not disturb one that takes it meanwhile.

    Nobody does on a file system without locks: no launcher works there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    finally:
        os.close(descriptor)
    return False

"""Locks that the kernel frees on any death, and the record in them of who holds them.

``flock`` belongs to the open file: it goes with the last process that has it open, however that ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import pwd
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_RECORD_BYTES = 4096
_START_FIELD = 19  # starttime, counted from the state, which follows the name's closing parenthesis; proc(5)


@dataclass(frozen=True)
class LockOwner:
    """A process that holds a lock, in a way that another one with the same number cannot be taken for it."""

    pid: int
    start: int
    """When the process started, in the kernel's clock ticks since the machine did; 0 where unknown."""
    boot: str
    """The machine's present start-up."""
    host: str
    user: str
    time: float
    """When the lock was taken, in seconds since the epoch."""
    what: str = ""
    """What it is held for: a run's name."""
    start_of_job: str = ""
    """The SLURM job that the process is in, and which start of it: ``123.0``; empty outside one."""

    def __str__(self) -> str:
        where = "" if self.boot == boot_id() else f" on {self.host}"
        where += f", in SLURM job {self.start_of_job.partition('.')[0]}" if self.start_of_job else ""
        return f"process {self.pid}{where}" + (f" of {self.user}" if self.user else "")

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine, under this number: it may be signalled."""
        return self.boot == boot_id() and self.start > 0 and process_start_time(self.pid) == self.start


def current_owner(what: str = "") -> LockOwner:
    """This process."""
    pid = os.getpid()
    return LockOwner(
        pid, process_start_time(pid), boot_id(), platform.node(), user_name(os.getuid()), time.time(), what
    )


def boot_id() -> str:
    """Tells this machine, since it was started, from every other."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


def process_start_time(pid: int) -> int:
    """The start time of a process that still runs; 0 without one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()
        return 0 if fields[0] in (b"Z", b"X") else int(fields[_START_FIELD])
    except (OSError, IndexError, ValueError):
        return 0


def user_name(uid: int) -> str:
    """A user's name; the number where there is no name for it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def take(descriptor: int, wait: float = 0.0) -> bool:
    """Lock an open file for this process alone; False where another one has it for ``wait`` seconds on end."""
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
    """Whether a process has the lock; looked up without disturbing one that takes it meanwhile for long."""
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


def write_owner(descriptor: int, owner: LockOwner) -> None:
    """Say in a locked file who has it; a reader sees the old record or the new one."""
    record = (json.dumps(asdict(owner)) + "\n").encode()[:_RECORD_BYTES]
    os.pwrite(descriptor, record, 0)
    os.truncate(descriptor, len(record))


def read_owner(file: int | Path) -> LockOwner | None:
    """Who a locked file, open or by its path, says has it; None where it does not say.

    Anyone may have written it where it is shared: good for words, and for a signal only after ``is_here``.
    """
    with suppress(OSError, ValueError, TypeError):
        if isinstance(file, int):
            data = os.pread(file, _RECORD_BYTES, 0)
        else:
            with file.open("rb") as opened:
                data = opened.read(_RECORD_BYTES)
        return _parse(json.loads(data.split(b"\n")[0]))
    return None


def _parse(document: dict[str, Any]) -> LockOwner:
    document = {"start_of_job": "", **document}
    kinds = {"pid": int, "start": int, "boot": str, "host": str, "user": str, "time": float, "what": str}
    kinds |= {"start_of_job": str}
    return LockOwner(**{name: kind(document[name]) for name, kind in kinds.items()})


def process_name(pid: int) -> str:
    """A process in words, with its program and user where this user may know them."""
    with suppress(OSError):
        folder = Path(f"/proc/{pid}")
        return f"process {pid} ({(folder / 'comm').read_text().strip()} of {user_name(folder.stat().st_uid)})"
    return f"process {pid}"

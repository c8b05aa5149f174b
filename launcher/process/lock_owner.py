"""The record in a locked file of the process that holds the lock."""

from __future__ import annotations

import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...data.common import boot_id, process_start_time, user_name

_RECORD_BYTES = 4096


@dataclass(frozen=True)
class LockOwner:
    """A process that holds a lock; start time and boot tell it from another one with the same number."""

    pid: int
    start: int
    """When the process started, in the kernel's clock ticks since the machine did; 0 where unknown."""
    boot: str
    """Identifies the machine since its last start."""
    host: str
    user: str
    time: float
    """When the lock was taken, in seconds since the epoch."""
    what: str = ""
    """What the lock is held for: a run's name."""
    start_of_job: str = ""
    """The SLURM job that the process is in, and which start of it: ``123.0``; empty outside one."""

    def __str__(self) -> str:
        where = "" if self.boot == boot_id() else f" on {self.host}"
        where += f", in SLURM job {self.start_of_job.partition('.')[0]}" if self.start_of_job else ""
        return f"process {self.pid}{where}" + (f" of {self.user}" if self.user else "")

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine under this number, so that it may be signalled."""
        return self.boot == boot_id() and self.start > 0 and process_start_time(self.pid) == self.start


def current_owner(what: str = "") -> LockOwner:
    """Describe this process as an owner."""
    pid = os.getpid()
    return LockOwner(
        pid, process_start_time(pid), boot_id(), platform.node(), user_name(os.getuid()), time.time(), what
    )


def write_owner(descriptor: int, owner: LockOwner) -> None:
    """Record the owner in a locked file; a reader sees the old record or the new one."""
    record = (json.dumps(asdict(owner)) + "\n").encode()[:_RECORD_BYTES]
    os.pwrite(descriptor, record, 0)
    os.truncate(descriptor, len(record))


def read_owner(file: int | Path) -> LockOwner | None:
    """Read who a locked file, open or by its path, says has it; None if it does not say.

    If the file is shared, anyone may have written this: use it in messages, and for a signal only after ``is_here``.
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

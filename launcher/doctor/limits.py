"""Checks of this machine's limits: shared memory, open files, processes, locked memory."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from .finding import FAIL, PASS, WARN, Finding

_MIB, _GIB = 1 << 20, 1 << 30
_SHM_LEAST, _SHM_ENOUGH = 64 * _MIB, _GIB
"""Docker gives 64 MiB, which the batches of two loader workers fill."""
_FILES_LEAST, _FILES_ENOUGH = 256, 4096
_PROCESSES_LEAST, _PROCESSES_ENOUGH = 256, 4096
_INFINIBAND = Path("/sys/class/infiniband")


def shared_memory(folder: Path = Path("/dev/shm")) -> Iterator[Finding]:  # noqa: S108 - where workers put batches
    """Look at the room in shared memory, through which loader workers send batches."""
    if not folder.is_dir():
        yield Finding(str(folder), FAIL, "not there", "mount a tmpfs there: loader workers need it")
        return
    room = os.statvfs(folder)
    total, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
    verdict = FAIL if free < _SHM_LEAST else WARN if free < _SHM_ENOUGH else PASS
    fix = "" if verdict == PASS else "free it, or in a container: docker run --shm-size=8g, or --ipc=host"
    said = f"{free / _GIB:.1f} GiB free of {total / _GIB:.1f} GiB"
    yield Finding(str(folder), verdict, said, fix, {"free_bytes": free, "total_bytes": total})


def open_files() -> Iterator[Finding]:
    """Look at how many files a process may open; ``launch`` raises the soft limit itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield _limit("open files", hard, _FILES_LEAST, _FILES_ENOUGH, "ulimit -n", {"soft": _number(soft)})


def processes() -> Iterator[Finding]:
    """Look at how many processes and threads this user may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    yield _limit("processes", hard, _PROCESSES_LEAST, _PROCESSES_ENOUGH, "ulimit -u", {})


def locked_memory(infiniband: Path = _INFINIBAND) -> Iterator[Finding]:
    """Look at how much memory may be locked, which RDMA needs without a limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    values = {"soft": _number(soft), "hard": _number(hard)}
    said = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft / _MIB:,.0f} MiB"
    if soft != resource.RLIM_INFINITY and infiniband.is_dir():
        fix = "let `ulimit -l` be unlimited (/etc/security/limits.conf; docker run --ulimit memlock=-1)"
        yield Finding("locked memory", WARN, f"{said}, and this machine has InfiniBand", fix, values)
        return
    yield Finding("locked memory", PASS, said, "", values)


def _limit(
    name: str, hard: int, least: int, enough: int, command: str, values: dict[str, int | None]
) -> Finding:
    number = _number(hard)
    verdict = PASS if number is None or number >= enough else WARN if number >= least else FAIL
    said = "unlimited" if number is None else f"at most {number:,}"
    fix = "" if verdict == PASS else f"raise `{command}` to {enough:,} in /etc/security/limits.conf"
    return Finding(name, verdict, said, fix, {**values, "hard": number})


def _number(limit: int) -> int | None:
    return None if limit == resource.RLIM_INFINITY else limit

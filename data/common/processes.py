"""Processes as /proc tells of them: the one reader of ``/proc/PID/stat``, and who descends from whom.

Source: proc_pid_stat(5).
"""

from __future__ import annotations

import os
import platform
import pwd
import signal
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_STATE, _PARENT, _USER_TICKS, _SYSTEM_TICKS, _STARTED, _ARG_START, _ARG_END = 0, 1, 11, 12, 19, 45, 46
"""Positions from the state on, which follows the name in parentheses; a name may hold blanks and parentheses."""
_CHUNK = 2**16


@dataclass(frozen=True)
class ProcStat:
    """The account of the kernel of one process."""

    state: str
    """One letter: ``R``, ``S``, ``D``, ``T`` (stopped), ``t`` (traced), ``Z`` (a zombie), ``X`` (dead) …"""
    parent: int
    cpu_ticks: int
    """Clock ticks spent on a processor, in user and in kernel mode."""
    started: int
    """In clock ticks since the machine was started."""
    arguments: tuple[int, int]
    """The addresses between which the process keeps its command line; zeros where this user may not know."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it runs any more: a zombie that nobody has waited for yet, or less."""
        return self.state in "ZX"


def read_proc(name: str) -> str:
    """Read a file below /proc, by system calls alone: for 64 ranks, ``pathlib`` took half of the supervisor's time."""
    descriptor = os.open(f"/proc/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(descriptor, _CHUNK):
            chunks.append(chunk)
    finally:
        os.close(descriptor)
    return b"".join(chunks).decode(errors="replace")


def read_proc_stat(pid: int | Literal["self"]) -> ProcStat | None:
    """Read what the kernel says of a process; None where there is none of this number."""
    try:
        fields = read_proc(f"{pid}/stat").rpartition(")")[2].split()
        return ProcStat(
            state=fields[_STATE],
            parent=int(fields[_PARENT]),
            cpu_ticks=int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS]),
            started=int(fields[_STARTED]),
            arguments=(int(fields[_ARG_START]), int(fields[_ARG_END])),
        )
    except (OSError, IndexError):
        return None


@dataclass(frozen=True)
class Process:
    """One process, and not another one that was given the same number later."""

    pid: int
    started: int
    """In clock ticks since the machine was started."""

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return process_of(self.pid) == self

    def send_signal(self, number: int) -> None:
        """Send a signal to this very process, whoever has its number by now; nothing where it has ended."""
        with suppress(OSError):
            descriptor = os.pidfd_open(self.pid)
            try:
                if self.is_alive:
                    signal.pidfd_send_signal(descriptor, number)
            finally:
                os.close(descriptor)


def process_of(pid: int) -> Process | None:
    """Find the process that has this number now; None if there is none, or it has ended."""
    stat = read_proc_stat(pid)
    return None if stat is None or stat.has_ended else Process(pid, stat.started)


def process_start_time(pid: int) -> int:
    """Read the start time of a process that still runs; 0 without one."""
    process = process_of(pid)
    return process.started if process is not None else 0


def descendants(root: int, but: Collection[Process] = ()) -> set[Process]:
    """Find living descendants of ``root``, without ``root`` itself, and without ``but`` and their descendants."""
    found, waiting, seen = set(), [root], {root, *(process.pid for process in but if process.is_alive)}
    while waiting:
        for pid in children(waiting.pop()):
            if pid not in seen:  # a number may be given out again while we read
                seen.add(pid)
                waiting.append(pid)
                found.add(process_of(pid))
    return {process for process in found if process is not None}


def children(pid: int) -> list[int]:
    """List the children of all threads of a process, from the kernel's own list or else from every process's parent."""
    lists = []
    with suppress(OSError):
        for thread in thread_ids(pid):
            with suppress(OSError):  # it has ended meanwhile
                lists.append(read_proc(f"{pid}/task/{thread}/children"))
    if lists or read_proc_stat(pid) is None:
        return [int(child) for text in lists for child in text.split()]
    found = ((child, read_proc_stat(child)) for child in all_pids())
    return [child for child, stat in found if stat is not None and stat.parent == pid]


def thread_ids(pid: int) -> list[int]:
    """List the numbers of a process's threads; its own is that of the first."""
    with os.scandir(f"/proc/{pid}/task") as entries:
        return [int(entry.name) for entry in entries]


def all_pids() -> list[int]:
    """List the numbers of all processes."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def boot_id() -> str:
    """Identify this machine since its last start."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return platform.node()


def process_name(pid: int) -> str:
    """Describe a process, with its program and user where this user may know them."""
    with suppress(OSError):
        folder = Path(f"/proc/{pid}")
        return f"process {pid} ({(folder / 'comm').read_text().strip()} of {user_name(folder.stat().st_uid)})"
    return f"process {pid}"


def user_name(uid: int) -> str:
    """Look up a user's name; the number if there is no name for it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)

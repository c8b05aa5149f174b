"""Which processes belong to a run, and the end of them all: nothing survives, and nothing else is touched.

A run's processes are found by descent (supervisor and agent are subreapers, so that what loses its parent comes
back to them) and by a mark in their environment, and each is known by its number and start time together: the
kernel gives a number out again, the pair never.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "LOCKSTEP_RUN_MARK"
"""In the environment of every process of a run, with a value that no other run has."""
_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_SECONDS = 4.0
_BETWEEN_SECONDS = 0.01
_spared: set[Process] = set()


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


def become_subreaper() -> None:
    """Descendants that lose their parent become children of this process, not of init."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def process_of(pid: int) -> Process | None:
    """The process that has this number now; None for none and for one that has ended."""
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else Process(pid, int(fields[19]))


def _stat(pid: int) -> list[str] | None:
    """The fields of ``/proc/PID/stat`` from the third, the state, on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def spare(pids: Iterable[int]) -> None:
    """These children of this process belong to no run: ``orphans`` passes over them and what they have started."""
    _spared.update(process for pid in pids if (process := process_of(pid)) is not None)


def orphans() -> set[Process]:
    """What has come to this process, a subreaper, from an agent that is gone."""
    return descendants(os.getpid(), but=_spared)


def descendants(root: int, but: Collection[Process] = ()) -> set[Process]:
    """Living children of ``root``, their children, and so on, without ``root``, and without ``but`` and theirs."""
    found, waiting, seen = set(), [root], {root, *(process.pid for process in but if process.is_alive)}
    while waiting:
        for pid in _children(waiting.pop()):
            if pid not in seen:  # a number may be given out again while we read
                seen.add(pid)
                waiting.append(pid)
                found.add(process_of(pid))
    return {process for process in found if process is not None}


def _children(pid: int) -> list[int]:
    """Of all threads of a process; read from the kernel's own list where it keeps one, else from everyone's parent."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    if lists or not _stat(pid):
        return [int(child) for text in lists for child in text.split()]
    return [child for child in _all_pids() if (_stat(child) or ("", ""))[1] == str(pid)]


def processes_with_mark(mark: str) -> set[Process]:
    """Living processes that were started with this mark, except the one that asks."""
    wanted = f"{MARK}={mark}".encode()
    found = set()
    for pid in _all_pids():
        with suppress(OSError):
            if pid != os.getpid() and wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(process_of(pid))
    return {process for process in found if process is not None}


def _all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def kill(process: Process, number: signal.Signals = signal.SIGKILL) -> None:
    """Kill this very process, or send it another signal, whoever has its number by now."""
    with suppress(OSError):
        descriptor = os.pidfd_open(process.pid)
        try:
            if process_of(process.pid) == process:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def kill_processes(find: Callable[[], Iterable[Process]]) -> set[Process]:
    """Kill what ``find`` finds until it finds nothing; what is killed here may have had children meanwhile.

    Nothing is nothing twice over: who has just lost its parent may be seen neither below that one, which is dead
    already, nor below the process that it came to, which was looked at before.

    Returns:
        What is left after four seconds: a process that the kernel itself holds.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while left := set(find()) or set(find()):
        if time.monotonic() > deadline:
            return left
        for process in left:
            kill(process)
        reap()
        time.sleep(_BETWEEN_SECONDS)
    return set()


def reap() -> list[tuple[int, int]]:
    """Reap every child that has ended, orphans that came to this process among them; return their wait statuses.

    Spared children are left to whoever waits for them: reaped here, they would seem to have ended with status 0.
    """
    if not _spared:
        return _reaped(-1)
    spared = {process.pid for process in _spared}
    return [ended for pid in _children(os.getpid()) if pid not in spared for ended in _reaped(pid)]


def _reaped(pid: int) -> list[tuple[int, int]]:
    ended = []
    with suppress(ChildProcessError):
        while (child := os.waitpid(pid, os.WNOHANG))[0]:
            ended.append(child)
    return ended

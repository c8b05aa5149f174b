"""Which processes belong to a run, and killing all of them and no others.

A run's processes are found by descent (supervisor and agent are subreapers, so that what loses its parent comes
back to them) and by a mark in their environment, and each is known by its number and start time together: the
kernel gives a number out again, the pair never.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ...data.common import Process, all_pids, children, descendants, process_of

RUN_MARK = "LOCKSTEP_RUN_MARK"
"""Variable in the environment of every process of a run, with a value that no other run has."""
_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_SECONDS = 4.0
_BETWEEN_SECONDS = 0.01
_spared: set[Process] = set()


def become_subreaper() -> None:
    """Adopt descendants that lose their parent, instead of leaving them to init."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def exclude_from_run(pids: Iterable[int]) -> None:
    """Exclude these children from every run: ``orphaned_processes`` skips them and what they have started."""
    _spared.update(process for pid in pids if (process := process_of(pid)) is not None)


def orphaned_processes() -> set[Process]:
    """Find what this process, a subreaper, has adopted from an agent that is gone."""
    return descendants(os.getpid(), but=_spared)


def processes_with_mark(mark: str) -> set[Process]:
    """Find living processes that were started with this mark, except the one that asks."""
    wanted = f"{RUN_MARK}={mark}".encode()
    found = set()
    for pid in all_pids():
        with suppress(OSError):
            if pid != os.getpid() and wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(process_of(pid))
    return {process for process in found if process is not None}


def kill_processes(find: Callable[[], Iterable[Process]]) -> set[Process]:
    """Kill what ``find`` finds until it finds nothing; what is killed here may have had children meanwhile.

    It has to find nothing twice: a process that has just lost its parent may be seen neither below that one, which is
    dead already, nor below the process that adopted it, which was looked at before.

    Returns:
        What is left after four seconds: a process that the kernel itself holds.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while left := set(find()) or set(find()):
        if time.monotonic() > deadline:
            return left
        for process in left:
            process.send_signal(signal.SIGKILL)
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
    return [ended for pid in children(os.getpid()) if pid not in spared for ended in _reaped(pid)]


def _reaped(pid: int) -> list[tuple[int, int]]:
    ended = []
    with suppress(ChildProcessError):
        while (child := os.waitpid(pid, os.WNOHANG))[0]:
            ended.append(child)
    return ended

"""The bond between a process and the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, or the thread of its parent that started it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def die_with(parent: int) -> None:
    """Ask for the same, and end at once if the parent of this number had ended before the kernel was asked."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)


def outlive_parent() -> None:
    """Take back what the others here have asked for."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0)

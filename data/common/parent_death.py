"""The bond between a process and the one that started it."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, or the thread of its parent that started it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def outlive_parent() -> None:
    """Take back what ``die_with_parent`` has asked for."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0)

"""Signals that ask a run to end: under supervision only the supervisor acts on them, whichever process they reach.

SLURM's preemption sends SIGTERM to every process of a step. A rank, a loader's worker or W&B's feeder that died of
it would cost the run the checkpoint that it was about to write.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing import popen_fork, util
from types import FrameType
from typing import Any

from .early_signals import STOP_SIGNALS

_ignored: list[bool] = []


@contextmanager
def held_back() -> Iterator[None]:
    """Block the stop signals here and in every process started meanwhile; they wait until ``let_in``."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_in() -> None:
    """Unblock the stop signals; those that have waited are delivered now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def ignore_stop_signals() -> None:
    """Ignore the stop signals in this process, and in the Python processes that it starts.

    By a handler, not by SIG_IGN or a mask: any other program that this process starts has the default again, and can be
    ended by SIGTERM. A process of ``multiprocessing`` cannot any more, so its ``terminate`` is made to mean ``kill``.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _do_nothing)
        signal.siginterrupt(number, False)  # noqa: FBT003 - its only form; no system call of a library ends early
    if not _ignored:
        _ignored.append(True)
        popen_fork.Popen.terminate = popen_fork.Popen.kill  # type: ignore[method-assign]
        util.spawnv_passfds = _spawn_with_signals_blocked  # type: ignore[assignment]
    let_in()


def stop_signals_blocked_if_supervised() -> Any:
    """Apply ``held_back`` if the supervisor owns these signals, while starting what first calls ``shelter_worker``."""
    return held_back() if _ignored else nullcontext()


def shelter_worker(_: int) -> None:
    """Ignore the stop signals in a worker of torch's DataLoader, which has set a handler that ends it."""
    if _ignored:
        ignore_stop_signals()


def _do_nothing(_: int, __: FrameType | None) -> None:
    pass


_spawnv_passfds = util.spawnv_passfds


def _spawn_with_signals_blocked(*arguments: Any) -> int:
    """Start a process of ``multiprocessing`` with the stop signals blocked; what it starts inherits the mask."""
    with held_back():
        return int(_spawnv_passfds(*arguments))

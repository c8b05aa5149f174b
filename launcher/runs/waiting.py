"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...data.common import MachineError
from ..process import is_held
from .run_folder import LOCK
from .stop_requests import is_request_pending, is_stopping, write_request


def wait_until(reached: Callable[[], bool], wait: float, every: float = 0.05) -> bool:
    """Wait until a condition holds; False if it does not within ``wait`` seconds."""
    deadline = time.monotonic() + wait
    while not reached():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every)
    return True


def has_stopped(folder: Path) -> bool:
    """Tell whether a run that was asked to stop has done so.

    A launcher that took the lock meanwhile has dropped what was asked before, and is asked again.
    """
    held = is_held(folder / LOCK)
    if held and not is_stopping(folder):
        write_request(folder, "stop")
    return not (held or is_request_pending(folder))


@contextmanager
def explain_slurm_failure(*, is_asked: bool) -> Iterator[None]:
    """Add to an error of SLURM's what happens all the same.

    Args:
        is_asked: whether what runs was asked to stop.
    """
    try:
        yield
    except MachineError as error:
        if not is_asked:
            raise
        words = f"{error.message}; what runs was asked to stop all the same"
        raise MachineError(words, "it stops at its next step; try again later, for jobs that wait") from error

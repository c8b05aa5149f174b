"""Asking SLURM again for as long as its controller is silent: it is restarted, fails over, is overloaded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ..console import print_messages
from ..slurm import SlurmSilentError

_SECONDS = 1800.0
"""What waits has nothing better to do: without a controller no step of a job can start either."""
_FIRST_SECONDS = 1.0
_LONGEST_SECONDS = 30.0

T = TypeVar("T")


def retry_while_silent(ask: Callable[[], T]) -> T:
    """Call ``ask`` until SLURM answers, and return its result; a refusal is not retried.

    Args:
        ask: puts the question; it may be put many times.

    Raises:
        SlurmError: SLURM refused, or was silent for half an hour.
    """
    until = time.monotonic() + _SECONDS
    pause = _FIRST_SECONDS
    while True:
        try:
            return ask()
        except SlurmSilentError as error:
            if time.monotonic() + pause > until:
                raise
            said = "; ".join(error.message.split("\n"))
            print_messages([f"warning: {said}; it is asked again in {pause:g} s"])
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_SECONDS)

"""Ends that somebody asked for and that wait for no checkpoint: each is reported as what it is."""

from __future__ import annotations

import signal
from typing import Literal

from ...data.common import LockstepError, signal_name

_SIGNALLED = 128


class InterruptedRunError(LockstepError):
    """The end by a signal, before a checkpoint could be written.

    Args:
        number: the signal, or the one that the end amounts to.
        message: what users read.
        hint: what to do.
    """

    outcome: Literal["failed", "stopped", "cancelled"] = "failed"
    """The status of the run."""

    def __init__(self, number: int, message: str = "", hint: str = "") -> None:
        super().__init__(message or f"interrupted by {signal_name(number)}", hint)
        self.exit_status = _SIGNALLED + number
        self.number = number


class NothingToSaveError(InterruptedRunError):
    """The end of an attempt that has done no step yet.

    Args:
        by: who or what asked for it.
        step: that the run stands at: 0, or that of the checkpoint which it was resumed from.
    """

    outcome = "stopped"

    def __init__(self, number: int, by: str, step: int) -> None:
        rest = (
            f"before it had done another step: it stays at step {step:,}"
            if step
            else "before the first step: there was nothing to save"
        )
        super().__init__(number, f"stopped ({by}) {rest}")


class LateStopError(InterruptedRunError):
    """The end of an attempt whose ranks did not come to their last checkpoint in time.

    Args:
        by: who or what asked for the stop.
        seconds: that they had.
    """

    def __init__(self, number: int, by: str, seconds: float) -> None:
        message = f"stopping ({by}) took more than {seconds:g} s: it was ended without a checkpoint"
        super().__init__(number, message, "if it only needs longer: --stop-timeout; else see the ranks' logs")


class CancelledRunError(InterruptedRunError):
    """The end that ``launch cancel`` asks for.

    Args:
        by: who.
    """

    outcome = "cancelled"

    def __init__(self, by: str) -> None:
        super().__init__(signal.SIGTERM, f"cancelled ({by})")

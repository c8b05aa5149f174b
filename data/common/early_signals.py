"""What a signal does to a command before, and unless, the command itself listens for it: it ends in good order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | signal.Handlers
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Those that ask a command or a run to end."""
_received: list[int] = []


class EndedBySignal(SystemExit):
    """The end of this process by a signal, through every ``finally``: what it has started ends with it."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number

    @property
    def name(self) -> str:
        """The signal's name."""
        return signal_name(self.number)


def signal_name(number: int) -> str:
    """Return a signal's name; a real-time signal's is ``SIGRTMIN+1``, as ``kill -l`` has it."""
    if number in [*signal.Signals]:
        return signal.Signals(number).name
    above = number - signal.SIGRTMIN
    return f"SIGRTMIN+{above}" if 0 < above < signal.SIGRTMAX - signal.SIGRTMIN else f"signal {number}"


def end_at_signals() -> None:
    """Let the signals that ask a command to end do so in good order; those inherited as ignored stay ignored."""
    take_signals(STOP_SIGNALS, _end)


def take_signals(numbers: Iterable[int], handler: Handler) -> dict[int, Any]:
    """Set a handler for signals, except for those that this process has inherited as ignored; return the former ones.

    ``nohup`` ignores SIGHUP, and a shell without job control ignores SIGINT for what it runs in the background.
    """
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


def received_signals() -> list[int]:
    """Return the signals that have come since ``end_at_signals``, once: in a callback, their exception may be lost."""
    found = [*_received]
    _received.clear()
    return found


def _end(number: int, _: FrameType | None) -> None:
    _received.append(number)
    raise EndedBySignal(number)

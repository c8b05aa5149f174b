"""How ranks are asked to end: an interrupt first where it was one, then SIGTERM, and an end of the patience."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable

from ...data.common import process_of


class EndGrace:
    """The time that ranks have to end: a grace after SIGTERM and, where an interrupt comes first, one after that.

    ``except KeyboardInterrupt`` and ``finally`` in a script answer to SIGINT, and to SIGTERM only with a handler.

    Args:
        number: the signal that they get first, SIGINT or SIGTERM.
        grace: seconds after each signal.
    """

    def __init__(self, number: int, grace: float) -> None:
        self._number = number
        self._grace = grace
        self._until = time.monotonic() + grace

    @property
    def is_over(self) -> bool:
        """Whether what is left is to be killed."""
        return self._number != signal.SIGINT and time.monotonic() > self._until

    def tick(self, pids: Iterable[int]) -> None:
        """Send SIGTERM to these ranks once an interrupt has had its time."""
        if self._number == signal.SIGINT and time.monotonic() > self._until:
            self._number = signal.SIGTERM
            self._until = time.monotonic() + self._grace
            self.send(pids)

    def send(self, pids: Iterable[int]) -> None:
        """Send these ranks the signal whose time it is."""
        for pid in pids:
            if (rank := process_of(pid)) is not None:
                rank.send_signal(self._number)

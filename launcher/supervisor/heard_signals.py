"""The signals that a supervisor acts on: its handlers only note them, so that it acts on them between two looks."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

from ...data.common import STOP_SIGNALS, received_signals, take_signals


class HeardSignals:
    """The signals that have come and were not acted on yet."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._former: dict[int, Any] = {}

    def listen(self) -> None:
        """Note the signals from now on, and those that came before without ending this process."""
        if not self._former:
            self._former = take_signals(STOP_SIGNALS, self._note)
            self._numbers += received_signals()

    def pop(self) -> int | None:
        """Return the one that came first, once; None where there is none."""
        return self._numbers.pop(0) if self._numbers else None

    def leave(self, *, but: tuple[int, ...] = ()) -> None:
        """Give the signals back to who had them before, but for those that are to have no effect any more."""
        for number, handler in self._former.items():
            if number not in but:
                signal.signal(number, handler)
        self._former = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        self._numbers.append(number)

"""One thread that waits for several things: descriptors and the ends of children."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn


class EventLoop:
    """Calls back when something can be read, and when a child has ended."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def on_read(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever the descriptor can be read or is at its end."""
        self._selector.register(descriptor, selectors.EVENT_READ, callback)

    def forget(self, descriptor: int) -> None:
        """No more callbacks for it."""
        self._selector.unregister(descriptor)

    def on_child(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after one or more children have ended."""
        self._awake, end = os.pipe()
        os.set_blocking(self._awake, False)
        os.set_blocking(end, False)
        signal.set_wakeup_fd(end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._end = end

        def drain() -> None:
            with suppress(BlockingIOError):
                while os.read(self._awake, 512):
                    pass
            callback()

        self.on_read(self._awake, drain)

    def run(self) -> NoReturn:
        """For ever; a callback ends it by an exception."""
        while True:
            for key, _ in self._selector.select():
                key.data()

    def close_in_child(self) -> None:
        """In a forked child: none of this is its own."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for descriptor in (self._awake, self._end):
            os.close(descriptor)

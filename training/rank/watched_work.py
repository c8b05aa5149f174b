"""Collectives that a rank's death ends, also where gloo does not notice it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

_LOOK = timedelta(seconds=1)


@dataclass(frozen=True)
class WatchedWork:
    """A collective under way, which is not waited for any more once a rank has died.

    Gloo learns of the end of a connection when it has read what came before. Of an exchange that has failed elsewhere,
    nobody takes that any more: another one waits for the same connection, and would do so for half an hour.

    Args:
        work: what torch has returned.
        has_lost: says whether a rank of its process group has died.
    """

    work: Any
    has_lost: Callable[[], bool]

    def wait(self) -> None:
        """Wait until it is done.

        Raises:
            RuntimeError: it has failed, or a rank has died meanwhile.
        """
        while True:
            with suppress(RuntimeError):
                self.work.wait(_LOOK)
                return
            if self.work.is_completed():
                self.work.wait()
                return
            if self.has_lost():
                raise RuntimeError("gloo waits for an exchange in which a rank has died")

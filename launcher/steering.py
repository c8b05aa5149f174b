"""How far the ranks of a training may go: the horizon is kept ahead of them, and frozen when somebody asks to stop."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from ..training.control import Horizon, Page
from .console import say
from .requests import note_stop, take_request


class Steering:
    """The supervisor's side of the page that it shares with the ranks of this node.

    Args:
        folder: of the run, where requests are laid.
        ranks: of this node.
        every_minutes: between two checkpoints; None takes none by the clock.
    """

    def __init__(self, folder: Path, ranks: int, every_minutes: float | None) -> None:
        self._folder = folder
        self._memory = os.memfd_create("lockstep-control")
        self._page = Page(Path(f"/proc/self/fd/{self._memory}"), ranks)
        self._horizon = Horizon(self._page)
        self._every = None if every_minutes is None else every_minutes * 60
        self._last = time.monotonic()

    @property
    def environment(self) -> dict[str, str]:
        """What the ranks need to find the page: it has no name that could be left behind."""
        return {"LOCKSTEP_CONTROL": f"/proc/{os.getpid()}/fd/{self._memory}"}

    def tick(self) -> None:
        """Let the ranks go on, or do what was asked; called many times a second."""
        request = take_request(self._folder)
        if request is not None and request.what == "stop":
            self.stop(request.by)
        elif request is not None or self._is_due():
            self._horizon.ask_for_checkpoint()
        self._horizon.extend()

    def said(self, rank: int) -> tuple[int, str, int]:
        """How far a rank of this node is, as ``Horizon.said``."""
        return self._horizon.said(rank)

    def _is_due(self) -> bool:
        if self._every is None or time.monotonic() - self._last < self._every:
            return False
        self._last = time.monotonic()
        return True

    def signalled(self, number: int) -> bool:
        """A signal asks to stop; whether that was news: a second one wants more than that."""
        if self._horizon.stopping:
            return False
        note_stop(self._folder, signal.Signals(number).name)
        self.stop(signal.Signals(number).name)
        return True

    def stop(self, by: str) -> None:
        """Freeze the horizon: every rank ends there with a checkpoint."""
        if not self._horizon.stopping:
            step = self._horizon.stop()
            say(
                [f"stopping ({by}): at step {step:,} a checkpoint is written; interrupt again to end at once"]
            )

    def close(self) -> None:
        """Give the page back."""
        self._page.close()
        os.close(self._memory)

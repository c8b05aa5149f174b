"""How far the ranks of a training may go: the horizon is kept ahead of them, and frozen by a request to stop."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from ..console import say
from ..runs import record_stop_reason, take_request
from .supervisor_page import SupervisorPage


class HorizonControl(SupervisorPage):
    """The supervisor's side of the page that it shares with the ranks of this node.

    Args:
        folder: of the run, where requests are laid.
        ranks: of this node.
        every_minutes: between two checkpoints; None takes none by the clock.
    """

    def __init__(self, folder: Path, ranks: int, every_minutes: float | None) -> None:
        super().__init__(ranks)
        self._folder = folder
        self._early_signals: list[int] = []
        self._every = None if every_minutes is None else every_minutes * 60
        self._last = time.monotonic()

    def queue_early_signals(self) -> None:
        """Take the signals that come while no supervisor is there for them: before its watch, and after it.

        Afterwards they are too late to do anything: the record is being completed, which a second SIGTERM, as
        SLURM sends it at the end of a grace, must not cost. An interrupt still ends this process.
        """
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, lambda number, _: self._early_signals.append(number))

    @property
    def stopping(self) -> bool:
        """Whether the ranks were asked to end."""
        return self._horizon.stopping

    def tick(self) -> None:
        """Let the ranks continue, or do what was requested; called many times a second."""
        while self._early_signals:
            self.handle_signal(self._early_signals.pop())
        request = take_request(self._folder)
        if request is not None and request.what == "stop":
            self.stop(request.by)
        elif request is not None or self._is_due():
            self._horizon.request_checkpoint()
        self._horizon.extend()

    def words(self) -> tuple[int, int, bool]:
        """Return what other nodes' ranks are to know, as ``Horizon.words``."""
        return self._horizon.words()

    def record_remote_progress(self, first: int, rows: list[list[int]]) -> None:
        """Note how far the ranks of another node are, from rank ``first`` on."""
        for rank, (steps, phase, stamp) in enumerate(rows, start=first):
            self._horizon.note(rank, steps, phase, stamp)

    def _is_due(self) -> bool:
        if self._every is None or time.monotonic() - self._last < self._every:
            return False
        self._last = time.monotonic()
        return True

    def handle_signal(self, number: int) -> bool:
        """Stop at a signal; return False for an interrupt of what is stopping already, which asks for more than that.

        SLURM sends SIGTERM at the beginning of a grace and once more at its end: that kills nothing.
        """
        if self._horizon.stopping:
            return number != signal.SIGINT
        record_stop_reason(self._folder, signal.Signals(number).name)
        self.stop(signal.Signals(number).name)
        return True

    def stop(self, by: str) -> None:
        """Freeze the horizon: every rank ends there with a checkpoint."""
        if not self._horizon.stopping:
            step = self._horizon.stop()
            say(
                [f"stopping ({by}): at step {step:,} a checkpoint is written; interrupt again to end at once"]
            )

    @property
    def steps(self) -> int:
        """Done by the foremost rank of this node."""
        return max(self._horizon.steps(), default=0)

"""How far the ranks of a training may go: the horizon is kept ahead of them, and frozen by a request to stop."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from ...data.common import signal_name
from ...training.rank import Horizon, HorizonWords, Members
from ..console import print_messages
from ..failures import CancelledRunError, InterruptedRunError, LateStopError, NothingToSaveError
from ..hang import HangLimit, ProgressTimes
from ..runs import record_stop_reason, take_request
from .stop_clock import StopClock, default_stop_seconds
from .supervisor_page import SupervisorPage

_SAVING = ("checkpoint", "ending")


class _Clock:
    """Tells whenever this many minutes have passed; None never."""

    def __init__(self, minutes: float | None) -> None:
        self._seconds = None if minutes is None else 60 * minutes
        self._last = time.monotonic()

    def is_due(self) -> bool:
        now = time.monotonic()
        if self._seconds is None or now - self._last < self._seconds:
            return False
        self._last = now
        return True


class HorizonControl(SupervisorPage):
    """The supervisor's side of the page that it shares with the ranks of this node.

    Args:
        folder: of the run, where requests are laid.
        ranks: of this node.
        every_minutes: between two checkpoints; None takes none by the clock.
        stop_timeout: seconds that a stop may take; None goes by what steps and checkpoints have taken.
        first_step: that the ranks begin at.
        evaluate_minutes: between two evaluations; None makes none by the clock.
    """

    def __init__(
        self,
        folder: Path,
        ranks: int,
        every_minutes: float | None = None,
        stop_timeout: float | None = None,
        first_step: int = 0,
        evaluate_minutes: float | None = None,
    ) -> None:
        super().__init__(ranks)
        self._folder = folder
        self._checkpoints, self._evaluations = _Clock(every_minutes), _Clock(evaluate_minutes)
        self._stop_timeout = stop_timeout
        self._first_step = first_step
        self._times = ProgressTimes()
        self._clock: StopClock | None = None
        self._by = ("", int(signal.SIGTERM))
        self._longest_checkpoint = 0.0
        self.interruption: InterruptedRunError | None = None
        """Set once everything is to end without a checkpoint."""

    def restart(self, first_step: int) -> None:
        """Open a new page for ranks that begin at a step."""
        self.reset()
        self._first_step = first_step
        self._times = ProgressTimes()

    @property
    def horizon(self) -> Horizon:
        """What the ranks of this attempt read."""
        return self._horizon

    @property
    def has_begun(self) -> bool:
        """Whether a rank has done a step in this attempt."""
        return self.steps > self._first_step

    def end_change(self, members: Members) -> None:
        """Go by other ranks from now on."""
        self._horizon.count(members)
        self._times = ProgressTimes()

    @property
    def stopping(self) -> bool:
        """Whether the ranks were asked to end."""
        return self._horizon.stopping

    def note_longest_checkpoint(self, seconds: float) -> None:
        """Note how long a checkpoint has taken at most, by which a stop is patient; 0 while none was written."""
        self._longest_checkpoint = seconds

    def tick(self) -> None:
        """Let the ranks continue, or do what was requested; called many times a second."""
        said = [self._horizon.said(rank) for rank in self._horizon.rows]
        for rank, words in zip(self._horizon.rows, said, strict=True):
            self._times.see(rank, *words)
        self._take_request()
        if self._evaluations.is_due():
            self._horizon.request_evaluation()
        if self._checkpoints.is_due():
            self._horizon.request_checkpoint()
        self._horizon.extend()
        if self._clock is not None and self.interruption is None:
            saving = any(phase in _SAVING for _, phase, _ in said)
            if self._clock.is_over(saving=saving):
                by, number = self._by
                self.interruption = LateStopError(number, by, self._clock.seconds)

    def _take_request(self) -> None:
        request = take_request(self._folder)
        if request is None:
            return
        if request.what == "cancel":
            self.interruption = CancelledRunError(request.by)
        elif request.what == "stop":
            self.stop(request.by)
        else:
            self._horizon.request_checkpoint()

    def hang_limit(self, ceiling: float, least: float) -> HangLimit:
        """Return the silence that counts as a hang, as this run's own times tell it."""
        return self._times.hang_limit(ceiling, least)

    def words(self) -> HorizonWords:
        """Return what other nodes' ranks are to know, as ``Horizon.words``."""
        return self._horizon.words()

    def record_remote_progress(self, first: int, rows: list[list[int]]) -> None:
        """Note how far the ranks of another node are, from rank ``first`` on."""
        for rank, (steps, phase, stamp) in enumerate(rows, start=first):
            self._horizon.note(rank, steps, phase, stamp)

    def handle_signal(self, number: int) -> bool:
        """Stop at a signal; return False for an interrupt of what is stopping already, which asks for more than that.

        SLURM sends SIGTERM at the beginning of a grace and once more at its end: that kills nothing. ``launch cancel``
        says what it wants before it sends SIGTERM.
        """
        self._take_request()
        if self.interruption is not None:
            return True
        if self._horizon.stopping:
            return number != signal.SIGINT
        record_stop_reason(self._folder, signal_name(number))
        self.stop(signal_name(number), number)
        return True

    def stop(self, by: str, number: int = signal.SIGTERM) -> None:
        """Freeze the horizon: every rank ends there with a checkpoint; where none has done a step, all ends at once.

        Args:
            by: who or what asks for it.
            number: the signal that an end without a checkpoint amounts to.
        """
        if self._horizon.stopping or self.interruption is not None:
            return
        if not self.has_begun:
            self.interruption = NothingToSaveError(number, by, self._first_step)
            return
        step = self._horizon.stop()
        self._by = by, number
        self._clock = self._start_clock()
        within = f"within {self._clock.seconds:,.0f} s; interrupt again to end at once"
        print_messages([f"stopping ({by}): a checkpoint is written at step {step:,} at the latest, {within}"])

    def _start_clock(self) -> StopClock:
        if self._stop_timeout is not None:
            return StopClock(self._stop_timeout, may_save_longer=False)
        seconds = default_stop_seconds(self._times.slowest_step, self._longest_checkpoint)
        return StopClock(seconds, may_save_longer=not self._longest_checkpoint)

    @property
    def standing(self) -> tuple[int, str]:
        """Steps done, and the phase of this node's first rank; ``starting`` while a rank is."""
        said = [self._horizon.said(rank) for rank in self._horizon.rows]
        phases = {phase for _, phase, _ in said}
        return self.steps, "starting" if "starting" in phases else said[0][1]

    @property
    def steps(self) -> int:
        """Done by the foremost rank of this node."""
        return max(self._horizon.steps(), default=0)

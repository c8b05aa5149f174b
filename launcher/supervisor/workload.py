"""What a launch runs: a training, an evaluation, a trial of ``launch check``, a user's script."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...data.common import DamagedError, LockstepError, MachineError, UsageError
from ...training.rank import HorizonWords, WorldChange
from ..control import RankProcesses
from ..failures import AttemptEnd, InterruptedRunError, diagnose_failure
from ..hang import HangLimit
from ..machine import World

_LASTING = (UsageError.exit_status, MachineError.exit_status, DamagedError.exit_status)
"""The settings, this machine or the data are wrong, and will be at the next start."""


class Workload(ABC):
    """The work of a launch's ranks: how they start, what they are told, and what counts as their end.

    The defaults are those of ranks that nobody asks anything while they work.
    """

    requires_done = True
    """Whether a rank has to report that it is done; else status 0 says so."""
    outcome_follows = False
    """Whether an outcome is recorded once the ranks have ended, which a late signal must not cost."""
    reports_progress = False
    """Whether the ranks say how far they are, so that a hang is judged as a training's."""

    @property
    def progress(self) -> Callable[[int], tuple[int, str, int]] | None:
        """Local rank to (steps done, phase, a stamp that changes with each sign of life), where ranks report it."""
        return None

    def hang_limit(self, ceiling: float, least: float) -> HangLimit:  # noqa: ARG002 - of those who learn one
        """Return the silence that counts as a hang: the fixed one, where nothing better is known.

        Args:
            ceiling: the fixed one, in seconds.
            least: of what may be learned, in seconds.
        """
        return HangLimit(ceiling)

    @property
    def horizon(self) -> HorizonWords | None:
        """What other nodes' ranks are to know of how far they may go."""
        return None

    @property
    def asked_to_end(self) -> tuple[int, float] | None:
        """Set once the ranks are to be asked to end: by which signal, and the seconds that they have after each."""
        return None

    @property
    def interruption(self) -> InterruptedRunError | None:
        """Set once everything is to end at once: how that is reported."""
        return None

    @property
    def is_stopping(self) -> bool:
        """Whether the ranks were asked to end: then they are not started again."""
        return False

    @abstractmethod
    def order(self, attempt: Path) -> dict[str, Any]:
        """Return what the agent is told of an attempt, besides what every attempt is told."""

    def tick(self) -> None:
        """Do what is to be done many times a second while the ranks work."""

    def scale(self, processes: RankProcesses) -> WorldChange | None:  # noqa: ARG002 - of those that can be
        """Change the number of processes where that was asked for; return a change that is done."""
        return None

    def note(self, text: str) -> None:
        """Tell users something about the ranks."""

    def on_signal(self, number: int) -> bool:  # noqa: ARG002 - of those who do act on it
        """Act on a signal; False where there is nothing gentler than to end everything."""
        return False

    def stop(self, by: str) -> None:
        """Stop the ranks, because another node was asked to."""

    def on_horizon(self, message: dict[str, Any]) -> None:
        """Take from node 0 how far the ranks of this node may go."""

    def on_progress(self, first: int, rows: list[list[int]]) -> None:
        """Take from another node how far its ranks are, from rank ``first`` on."""

    def may_pass(self, failure: LockstepError) -> bool:
        """Tell whether the same ranks, started again, may succeed."""
        return failure.exit_status not in _LASTING

    @property
    def better_chance(self) -> str:
        """Return what is different in another attempt, which then does not count as a restart; empty for nothing."""
        return ""

    def prepare_restart(self, attempt: Path) -> str:  # noqa: ARG002 - of those who prepare something
        """Prepare another attempt, whose folder this will be; return words that say from where it resumes."""
        return ""

    def begin_attempt(self, attempt: Path) -> None:
        """Switch to an attempt that begins in this folder, after an earlier one has failed."""

    def on_loss(self) -> None:
        """Note that a rank of the attempt has failed, and that the cause is awaited."""

    def on_end(self, attempt: Path, end: AttemptEnd, world: World) -> None:
        """Note how an attempt has ended, when nothing of it is left."""

    def failure(self, attempt: Path, end: AttemptEnd, world: World) -> LockstepError | None:
        """Diagnose the end of an attempt; None where all is done."""
        return self._as_asked_for(diagnose_failure(attempt, end, world.size))

    def _as_asked_for(self, found: LockstepError | None) -> LockstepError | None:
        """Return how an end is reported: one by a signal as what was asked for."""
        return self.interruption or found if isinstance(found, InterruptedRunError) else found

    def close(self) -> None:
        """Give back what was needed while the ranks worked."""

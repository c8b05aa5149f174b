"""Whether ranks that have failed are started once more in place, and in which folder: decided here alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...data.common import DamagedError, LockstepError, MachineError, UsageError
from ..console import say
from .agent_orders import next_attempt_folder

_LASTING = (UsageError.exit_status, MachineError.exit_status, DamagedError.exit_status)
"""Of ``launch train``: the settings, this machine or the data are wrong, and will be at the next start."""


class Restarts:
    """Counts them.

    Args:
        folder: of the run.
        limit: how many there may be; ``--max-restarts``.
        stopping: whether somebody wants the run to end.
        prepare: makes the run ready for the attempt that will have this folder; says where that goes on from.
        begun: called with the folder, once it is there.
        script: a user's program runs, whose exit statuses mean what it likes: any failure may pass.
    """

    def __init__(
        self,
        folder: Path,
        limit: int,
        *,
        stopping: Callable[[], bool],
        prepare: Callable[[Path], str],
        begun: Callable[[Path], None] = lambda _: None,
        script: bool = False,
    ) -> None:
        self._folder = folder
        self.limit = limit
        self._used = 0
        self._script = script
        self._stopping = stopping
        self._prepare = prepare
        self._begun = begun

    def next(self, failure: LockstepError) -> Path | None:
        """The folder of the next attempt, ready; None where the failure is the end."""
        lasts = not self._script and failure.exit_status in _LASTING
        if self._used == self.limit or lasts or self._stopping():
            return None
        self._used += 1
        attempt = next_attempt_folder(self._folder, "attempt")
        cause = failure.message.partition("\n")[0]
        try:
            where = self._prepare(attempt)
        except LockstepError as error:  # what is to be told in the end is why the ranks failed
            say([f"no restart: {error.message}"])
            return None
        attempt.mkdir(mode=0o700)
        self._begun(attempt)
        say([f"{cause}: restart {self._used} of {self.limit}{where}"])
        return attempt

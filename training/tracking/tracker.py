"""What a tracker is: the interface between a run's record and W&B, TensorBoard or a user's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import RunConfig
from .rows import Row


@dataclass(frozen=True)
class TrackedRun:
    """The run, as trackers see it."""

    name: str
    id: str
    """One for the whole life of the run, however often it is started."""
    folder: Path
    config: RunConfig


class Tracker(ABC):
    """A place where the rows of a run are sent.

    An attempt of a run has one feeder process for each tracker, which makes the tracker and calls all its methods
    from one thread: ``begin`` with the first event of the record, ``rewind`` where it is needed, then ``rows`` and
    ``pictures`` as they are logged, then ``end``. Each attempt reads the record from its beginning and leaves out the
    rows whose number is below what ``begin`` or ``rewind`` returned: so a tracker gets each row once, whatever was
    killed in between. Nothing that a method does, raises or takes its time for costs the training anything.

    A user's own tracker is a callable without arguments that returns an object with these five methods; it need not
    inherit from this class.
    """

    @classmethod
    def is_enabled(cls, config: RunConfig) -> bool:
        """Say whether a run with this config uses it; asked in the launcher, of built-in trackers only."""
        del config
        return True

    @abstractmethod
    def begin(self, run: TrackedRun) -> int:
        """Begin to track a run, or continue; return the number of the first row that is wanted.

        Returns:
            0 has all rows sent, also those that an earlier attempt has sent.
        """

    @abstractmethod
    def rewind(self, last_kept: int) -> int:
        """Forget the rows after number ``last_kept``, which came after the checkpoint that the run resumes from.

        Called after ``begin`` where that wants no row before ``last_kept + 2``. -1 forgets them all.

        Returns:
            The number of the first row that is wanted: ``last_kept + 1``, or what ``begin`` returned where rows cannot
            be forgotten.
        """

    @abstractmethod
    def rows(self, rows: Sequence[Row]) -> None:
        """Add rows, in the order of their numbers."""

    @abstractmethod
    def pictures(self, step: int, pictures: Mapping[str, Path]) -> None:
        """Add pictures, PNG files by name, that show the run after this many steps.

        They are logged before the row of the epoch that ends with this step, and have its number.
        """

    @abstractmethod
    def end(self, exit_status: int) -> str | None:
        """End the attempt with this exit status, 0 for a finished run.

        Returns:
            A warning for the user, if there is a reason for one.
        """


class NewProcessNeededError(Exception):
    """A tracker cannot continue in this process, and can begin again in a fresh one."""

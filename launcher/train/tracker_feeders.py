"""The processes that feed a run's trackers, as its supervisor drives them."""

from __future__ import annotations

import time
from pathlib import Path

from ...data.common import LockstepError
from ...training.config import RunSpec
from ...training.tracking import FeederProcesses
from ..console import print_messages
from ..process import process_tree

_LOOK_SECONDS = 1.0


class TrackerFeeders:
    """The feeders of a run, started and ended for each attempt.

    Args:
        spec: of the run.
        folder: of the run.
    """

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        self._processes = FeederProcesses(spec, folder)
        self._last_look = time.monotonic()

    def start(self, attempt: Path) -> None:
        """Feed what the attempt in this folder logs; the record has been cut already."""
        process_tree.exclude_from_run(self._processes.start(attempt))

    def tick(self) -> None:
        """Start feeders anew that were killed; may be called at any rate."""
        if time.monotonic() - self._last_look > _LOOK_SECONDS:
            self._last_look = time.monotonic()
            if revived := self._processes.revive():
                process_tree.exclude_from_run(revived)
                print_messages(["note: a tracker's process was killed, and is started anew"])

    def leave(self) -> None:
        """Leave the feeders of an attempt that has failed to themselves: those of the next one wait for them."""
        self._processes.detach(1)

    def finish(self, failure: LockstepError | None) -> None:
        """Wait until the trackers have the record, and warn of each that does not."""
        warnings = self._processes.finish(0 if failure is None else failure.exit_status)
        print_messages([f"warning: {warning}" for warning in warnings])

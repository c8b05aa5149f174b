"""The W&B feeders of a run: one for each attempt, each of which waits for the one before."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ...data.common import LockstepError
from ...training.config import RunSpec
from ...training.tracking import detach_feeder, finish_feeder, start_feeder
from ..console import say
from ..process import process_tree as family


class TrackerFeeders:
    """Starts and ends them; where W&B is disabled there are none.

    Args:
        spec: of the run.
        folder: of the run.
    """

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        self._spec = spec
        self._folder = folder
        self._log = folder
        self._left: list[subprocess.Popen[bytes] | None] = []
        self._feeder: subprocess.Popen[bytes] | None = None

    def start(self, attempt: Path) -> None:
        """Feed what the attempt in this folder logs; the record has been cut already."""
        self._log = attempt / "wandb.log"
        self._feeder = start_feeder(self._spec, self._folder, self._log)
        if self._feeder is not None:
            family.exclude_from_run([self._feeder.pid])

    def leave(self) -> None:
        """The attempt has failed and another one follows: nobody waits for this feeder but the next one."""
        detach_feeder(self._feeder, 1)
        self._left.append(self._feeder)

    def finish(self, failure: LockstepError | None) -> None:
        """Wait until W&B has the record, and say it where it does not."""
        warning = finish_feeder(self._feeder, 0 if failure is None else failure.exit_status)
        say([f"warning: {warning}; see {self._log}"] if warning else [])

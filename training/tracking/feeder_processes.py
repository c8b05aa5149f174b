"""Starts and ends the processes that feed a run's trackers."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from ...data.common import held_back, load_callable
from ..config import TRACKERS, RunSpec, tracker_file_name, tracker_title
from .rows import last_row_number

MODULE = "lockstep.training.tracking.feeder"
_LIVES = 3
"""How often a feeder that was killed, most often for lack of memory, is started anew."""
FINISH_SECONDS = 60.0  # at most this long for the trackers; the local record is complete long before
WARNED = 3
"""Exit status of a feeder whose last line of output is a warning for the user."""


class FeederProcesses:
    """The feeders of a run: for each attempt a process per tracker, which waits for that of the attempt before.

    Args:
        spec: of the run.
        folder: of the run.
    """

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        self._spec = spec
        self._folder = folder
        self._feeders: list[_Feeder] = []
        self._detached: list[_Feeder] = []
        """Kept: Python warns of a process that nobody holds and nobody has waited for."""

    def start(self, attempt: Path) -> list[int]:
        """Start to feed what the attempt in this folder logs; return the processes' ids.

        The record has been cut already. A tracker that cannot be started is no reason not to train.
        """
        last_kept = last_row_number(self._folder / "metrics.jsonl")
        for name in self._spec.config.tracking:
            if _is_enabled(name, self._spec):
                with suppress(OSError):
                    self._feeders.append(_Feeder(name, self._folder, attempt, last_kept))
        return [feeder.process.pid for feeder in self._feeders]

    def revive(self) -> list[int]:
        """Start those anew that were killed, a few times each; return the new processes' ids."""
        return [feeder.process.pid for feeder in self._feeders if feeder.revive()]

    def detach(self, status: int) -> None:
        """Tell the feeders that the record is complete, and let them finish alone."""
        for feeder in self._feeders:
            feeder.tell(status)
        self._detached += self._feeders
        self._feeders = []

    def finish(self, status: int) -> list[str]:
        """Tell the feeders that the record is complete, and wait for them; return a warning for each that failed."""
        self.revive()
        for feeder in self._feeders:
            feeder.tell(status)
        deadline = time.monotonic() + FINISH_SECONDS
        warnings = [feeder.wait(deadline) for feeder in self._feeders]
        return [warning for warning in warnings if warning]


def _is_enabled(name: str, spec: RunSpec) -> bool:
    """Say whether a tracker has anything to do; a user's own is imported in its feeder only."""
    if name not in TRACKERS:
        return True
    return bool(load_callable(TRACKERS[name].factory, spec.base).is_enabled(spec.config))  # type: ignore[attr-defined]


class _Feeder:
    """One process."""

    def __init__(self, name: str, folder: Path, attempt: Path, last_kept: int) -> None:
        self._name = name
        self._log = attempt / f"{tracker_file_name(name)}.log"
        self._argv = [sys.executable, "-P", "-m", MODULE, str(folder), name, str(last_kept)]
        self._lives = _LIVES
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as output, held_back():
            return subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,  # what kills the ranks, or a Ctrl-C, must not cost the record
            )

    def revive(self) -> bool:
        """Start a feeder anew that was killed: it sends what its tracker lacks. Return whether that was done."""
        killed = self.process.poll()
        if killed is None or killed >= 0 or not self._lives:
            return False
        self._lives -= 1
        with suppress(OSError):
            before, self.process = self.process, self._start()
            if before.stdin is not None:
                before.stdin.close()
            return True
        return False

    def tell(self, status: int) -> None:
        """Tell it the attempt's exit status, and that no more is logged."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            with suppress(OSError):
                self.process.stdin.write(f"{status}\n".encode())
                self.process.stdin.close()

    def wait(self, deadline: float) -> str | None:
        """Wait until it has ended, and kill it at the deadline; return a warning where it has not done all."""
        try:
            ended = self.process.wait(max(deadline - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            self.process.kill()
            ended = self.process.wait()
        return f"{self._warning(ended)}; see {self._log}" if ended else None

    def _warning(self, ended: int) -> str:
        said = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        if ended == WARNED and said:  # a full disk may have kept nothing of it
            return said[-1]
        again = f"`python -m {MODULE} RUN_FOLDER {shlex.quote(self._name)}` sends what is missing"
        title = tracker_title(self._name)
        return f"{title} did not take the whole record; metrics.jsonl is complete, and {again}"

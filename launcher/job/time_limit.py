"""When a training has to stop so that its checkpoint is written before the SLURM job's time is up.

SLURM's own signal comes up to a minute early and knows nothing of steps and checkpoints; this clock does. A thread
asks SLURM and reads the record, so that nothing here can hold up the supervisor.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from ...training.tracking import EventLogTail
from ..control import HorizonControl
from ..runs import record_stop_reason, write_request
from ..slurm import SlurmError, slurm_client

TIME_LIMIT_REASON = "the job's time limit"
_ASK_SECONDS = 60.0
_SOONER = 10  # near the end it is asked that often in what is left: an administrator may shorten it
_SOONEST = 2.0
_LOOK_SECONDS = 1.0
_AHEAD_STEPS = 3  # the one under way, and the two that the horizon lets ranks do without a word
_AHEAD_SECONDS = 0.5
_SPARE_SECONDS = 5.0
_UNKNOWN_SECONDS = 10.0  # a checkpoint that was never measured
_LARGEST_SHARE = 0.25  # of the time that the job had: a margin must not eat up a short job
_KEPT = 512
_RECORD_BYTES = 1 << 22  # of an earlier attempt: enough to know how long checkpoints take
_RARE = 0.99


class StepPace:
    """Seconds per step, from how the steps come in."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_KEPT)
        self._last: tuple[float, int] | None = None

    def add_sample(self, now: float, steps: int) -> None:
        """Note that ``steps`` are done at ``now``."""
        if self._last is None or steps < self._last[1]:
            self._last = now, steps
        elif steps > self._last[1]:
            if self._last[1]:  # the first one has waited for the ranks' start
                self._seconds.append((now - self._last[0]) / (steps - self._last[1]))
            self._last = now, steps

    @property
    def slow(self) -> float:
        """Seconds of a step that only one in a hundred is slower than; 0 while nothing was measured."""
        ordered = sorted(self._seconds)
        return ordered[int(_RARE * (len(ordered) - 1))] if ordered else 0.0


def stop_margin(step: float, checkpoint: float, kill_wait: float, whole: float) -> float:
    """Return how many seconds before the end to stop.

    Args:
        step: seconds of a slow one.
        checkpoint: seconds of a slow one.
        kill_wait: SLURM's, as the time for what comes after the checkpoint: W&B's last rows, the nodes' ends.
        whole: seconds that the job has in all.
    """
    wanted = max(_AHEAD_SECONDS, _AHEAD_STEPS * step) + 1.5 * checkpoint + kill_wait + _SPARE_SECONDS
    return min(wanted, _LARGEST_SHARE * whole)


class TimeLimitWatch:
    """The clock of one attempt.

    Args:
        job: SLURM's number.
        folder: of the run, whose record tells how long checkpoints take.
        grace: seconds that a script gets after its SIGTERM; it tells of no steps and no checkpoints, and is asked
            to stop by a request in its folder. None for a training, whose supervisor looks at ``is_due``.
    """

    def __init__(self, job: str, folder: Path, grace: float | None = None) -> None:
        self.pace = StepPace()
        self._job = job
        self._started = time.time()
        self._grace = grace
        self._folder = folder
        self._is_announced = False
        self._record = EventLogTail(folder / "metrics.jsonl", _RECORD_BYTES)
        self._checkpoints: deque[float] = deque(maxlen=_KEPT)
        self._end: float | None = None
        self._kill_wait = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="deadline", daemon=True)

    def start(self) -> None:
        """Begin to watch; the end is not known before SLURM has answered."""
        self._thread.start()

    def close(self) -> None:
        """Stop watching."""
        self._over.set()

    @property
    def seconds_left(self) -> float | None:
        """Until the job's time is up; None without a limit."""
        return None if self._end is None else self._end - time.time()

    @property
    def is_due(self) -> bool:
        """Whether it is time to stop."""
        left = self.seconds_left
        return left is not None and left < self.stop_margin

    @property
    def stop_margin(self) -> float:
        """Seconds before the end at which to stop."""
        whole = 0.0 if self._end is None else max(0.0, self._end - self._started)
        longest = max(self._checkpoints, default=_UNKNOWN_SECONDS)
        checkpoint = longest if self._grace is None else self._grace / 1.5
        return stop_margin(self.pace.slow, checkpoint, self._kill_wait, whole)

    def keep(self, control: HorizonControl) -> None:
        """Stop a training in time; called many times a second."""
        self.pace.add_sample(time.monotonic(), control.steps)
        if not control.stopping and self.is_due:
            left = self.seconds_left or 0.0
            record_stop_reason(self._folder, TIME_LIMIT_REASON)
            control.stop(f"{TIME_LIMIT_REASON}, in {left:.0f} s")

    def _watch(self) -> None:
        asked = 0.0
        while not self._over.is_set():
            left = self.seconds_left
            pause = _ASK_SECONDS if left is None else max(_SOONEST, min(_ASK_SECONDS, left / _SOONER))
            if time.monotonic() - asked >= pause:
                self._ask()
                asked = time.monotonic()
            with suppress(OSError, ValueError):
                self._read_checkpoints()
            if self._grace is not None and self.is_due and not self._is_announced:
                self._is_announced = True
                write_request(self._folder, "stop", TIME_LIMIT_REASON)
            self._over.wait(_LOOK_SECONDS)

    def _ask(self) -> None:
        """Ask SLURM for the end of the job; nothing is new where it does not answer."""
        with suppress(SlurmError):
            self._kill_wait = self._kill_wait or _first_number(slurm_client.config().get("KillWait", ""))
            self._end = slurm_client.end_time(self._job)

    def _read_checkpoints(self) -> None:
        for event in self._record.read():
            if event["event"] == "checkpoint":
                self._checkpoints.append(float(event.get("seconds") or 0))


def _first_number(text: str) -> float:
    """Return the first number of ``30 sec``; 0 where there is none."""
    found = re.match(r"[0-9]+", text)
    return float(found[0]) if found else 0.0

"""What looks at each step that is done: a hook, ranks that compare themselves, one that is late, what was compiled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from ...data.loading import StepBatch
from ..hooks import Hooks
from ..rank import WorldChange
from ..session import Training
from ..tracking import EventLog
from .profiler import Profiler
from .stragglers import Stragglers


class Stepping(Protocol):
    """The part of a run's progress that is looked at."""

    step: int


class Comparison(Protocol):
    """A comparison of the ranks after a step."""

    def add(self, step: int) -> None:
        """Count a step; compare where it is time."""


class StepWatch:
    """A look at each step; where there is nothing to see, it is not called.

    Args:
        training: takes the steps.
        hooks: of the run.
        verifier: compares the ranks.
        events: rank 0's record.
        folder: of the run.
        progress: of the run, always up to date.
    """

    def __init__(
        self,
        training: Training,
        hooks: Hooks,
        verifier: Comparison | None,
        events: EventLog,
        folder: Path,
        progress: Stepping,
    ) -> None:
        self._training, self._hooks, self._verifier = training, hooks, verifier
        self._events, self._progress = events, progress
        group, asked = training.session.group, training.session.spec.config.log.profile
        self._profiler = Profiler(asked, progress.step, group, training.stepper, folder) if asked else None
        self._is_elastic = training.session.spec.config.train.elastic is not None
        self._begin_world()

    def _begin_world(self) -> None:
        """Look at the ranks that there are now."""
        self._stragglers = Stragglers.for_ranks(self._training.session.group, self._training.stepper)
        watching = (self._stragglers, self._training.compilation, self._verifier)
        self.is_needed = self._hooks.on_step or any(one is not None for one in watching)
        """Whether there is something to see."""

    def change_world(self, change: WorldChange, seconds: float) -> None:
        """Look at the ranks after a change from now on, and tell of it."""
        self._begin_world()
        now, before = len(change.after), len(change.before)
        step, seconds = self._progress.step, round(seconds, 6)
        died = {"died": list(change.leaving)} if change.is_rescue else {}
        self._events.write("world", step=step, processes=now, before=before, seconds=seconds, **died)

    def end_world(self) -> None:
        """Wait for what is under way between ranks that part. Collective."""
        if self._stragglers is not None:
            self._stragglers.close()

    def begin(self) -> None:
        """Begin to count anew, as after an evaluation."""
        if self._stragglers is not None:
            self._stragglers.begin()

    def after_step(self) -> None:
        """Call the hook of a step; tell of what was compiled in it, and of a rank that the others wait for."""
        step = self._progress.step
        self._hooks.call("on_step")
        if self._verifier is not None:
            self._verifier.add(step)
        if late := self._late():
            self._events.write("straggler", step=step, **late)
        if self._training.compilation is not None and (message := self._training.compilation.news()):
            self._events.write("note", step=step, message=message)

    def _late(self) -> dict[str, Any] | None:
        """Return what is to be said of a rank that the others wait for."""
        try:
            return None if self._stragglers is None else self._stragglers.add()
        except RuntimeError:
            if not self._is_elastic:
                raise
            self._stragglers = None  # a rank has died: the next exchange of gradients fails, too, and says so
            return None

    def profiled(self, batches: Iterator[StepBatch]) -> Iterator[StepBatch]:
        """Pass on batches, with some steps profiled where that is asked for."""
        if self._profiler is None:
            return batches
        return self._profiler.steps(batches, lambda: self._progress.step, self._tell_profile)

    def finish_profile(self) -> None:
        """Tell of a profile that the epoch's end cuts short."""
        if self._profiler is not None:
            self._profiler.finish(self._progress.step, self._tell_profile)

    def _tell_profile(self, table: dict[str, Any]) -> None:
        self._events.write("profile", step=self._progress.step, **table)

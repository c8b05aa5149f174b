"""``log.profile``: some steps of every rank with torch's profiler, and a table of where their time goes.

All that measures is put in place when the first of these steps begins and taken away after the last: a step that is
not profiled has nothing of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.profiler import ProfilerActivity, profile, record_function

from ..config import profiled_steps
from ..rank import Group
from ..session import AlternatingStep, TrainStep

PHASES = ("data", "forward", "backward", "communication", "optimizer", "other")
Item = TypeVar("Item")


class _Clock:
    """Time spent in each phase, the innermost of those that are open; on a GPU as its stream sees it."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = [("other", self._now())]
        self._open: list[str] = []

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside as that of a phase; communication is that, whatever it calls."""
        inner = "communication" if "communication" in self._open else name
        self._open.append(inner)
        self._marks.append((inner, self._now()))
        try:
            with record_function(f"lockstep.{inner}"):
                yield
        finally:
            self._open.pop()
            self._marks.append((self._open[-1] if self._open else "other", self._now()))

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each phase until now."""
        marks = [*self._marks, ("", self._now())]
        if self._cuda:
            torch.cuda.synchronize()
        total = dict.fromkeys(PHASES, 0.0)
        for (name, begun), (_, ended) in pairwise(marks):
            total[name] += begun.elapsed_time(ended) / 1e3 if self._cuda else ended - begun
        return total


class Profiler:
    """Profiles the steps that a config names, on every rank.

    Args:
        asked: ``log.profile``.
        first: step of this attempt.
        group: whose ranks all profile the same steps.
        stepper: takes the steps.
        folder: the run folder; traces go to ``profile/`` in it.
    """

    def __init__(
        self, asked: str, first: int, group: Group, stepper: TrainStep | AlternatingStep, folder: Path
    ) -> None:
        self._begin, self._end = profiled_steps(asked, first)
        self._group = group
        self._stepper = stepper
        self._folder = folder / "profile"
        self._clock: _Clock | None = None
        self._undo: list[Callable[[], None]] = []
        self._started = 0
        self._trace = self._new_trace()

    def _new_trace(self) -> profile:
        cuda = [ProfilerActivity.CUDA] if self._group.device.type == "cuda" else []
        return profile(activities=[ProfilerActivity.CPU, *cuda], acc_events=True)

    def steps(
        self, fetched: Iterator[Item], step: Callable[[], int], tell: Callable[[Any], None]
    ) -> Iterator[Item]:
        """Pass on batches; between them, begin and end the profile.

        Args:
            fetched: the batches of an epoch.
            step: says how many steps are done.
            tell: gets the table.
        """
        while True:
            self._turn(step(), tell)
            if self._clock is None:
                batch = next(fetched, None)
            else:
                with self._clock.phase("data"):
                    batch = next(fetched, None)
            if batch is None:
                return
            yield batch

    def _turn(self, step: int, tell: Callable[[Any], None]) -> None:
        if self._clock is None and self._begin <= step < self._end:
            self._start(step)
        elif step >= self._end:
            self.finish(step, tell)

    def _start(self, step: int) -> None:
        self._started = step
        self._trace.start()
        self._clock = _Clock(self._group.device)
        self._watch(self._clock)

    def _watch(self, clock: _Clock) -> None:
        """Have the parts of a step tell when they begin and end."""
        for part in self._stepper.parts:
            for name, phase in (
                ("run", "forward"),
                ("_exchange_gradients", "communication"),
                ("_divide", "communication"),
            ):
                setattr(part, name, _timed(getattr(part, name), clock, phase))
                self._undo.append(partial(delattr, part, name))
        backward: Any = torch.autograd.backward
        torch.autograd.backward = _timed(backward, clock, "backward")
        self._undo.append(partial(setattr, torch.autograd, "backward", backward))
        opened: list[Any] = []

        def begin(*_: Any) -> None:
            opened.append(clock.phase("optimizer"))
            opened[-1].__enter__()

        def end(*_: Any) -> None:
            opened.pop().__exit__(None, None, None)

        self._undo.append(register_optimizer_step_pre_hook(begin).remove)
        self._undo.append(register_optimizer_step_post_hook(end).remove)

    def finish(self, step: int, tell: Callable[[Any], None]) -> None:
        """Take everything away again, write the trace, and tell the table of all ranks, where a profile is under way.

        Collective. An epoch's end is a profile's, too: what follows is not a step.
        """
        clock, self._clock = self._clock, None
        if clock is None:
            return
        seconds = clock.seconds()
        while self._undo:
            self._undo.pop()()
        self._trace.stop()
        if step > self._started:
            self._write()
            rows = self._group.gather(torch.tensor(list(seconds.values()), device=self._group.device))
            tell(profile_table(rows.tolist(), self._started, step))
        self._begin = self._end = -1

    def _write(self) -> None:
        self._folder.mkdir(exist_ok=True)
        self._trace.export_chrome_trace(str(self._folder / f"rank-{self._group.rank}.json.gz"))


def _timed(function: Callable[..., Any], clock: _Clock, phase: str) -> Callable[..., Any]:
    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        with clock.phase(phase):
            return function(*args, **kwargs)

    return timed


def profile_table(seconds: list[list[float]], first: int, last: int) -> dict[str, Any]:
    """Return what is recorded of a profile.

    Args:
        seconds: of each rank those of ``PHASES``.
        first: steps done before it.
        last: steps done after it.
    """
    steps = last - first
    ranks = [dict(zip(PHASES, (1e3 * value / steps for value in row), strict=True)) for row in seconds]
    mean = {name: sum(rank[name] for rank in ranks) / len(ranks) for name in PHASES}
    own = [sum(rank.values()) - rank["communication"] for rank in ranks]
    slowest = max(range(len(own)), key=own.__getitem__)
    return {
        "first": first + 1,
        "last": last,
        "milliseconds": mean,
        "ranks": ranks,
        "slowest_rank": slowest,
        "lag_milliseconds": own[slowest] - min(own),
    }

"""How far a training is and how fast it gets on, as one line of text; nothing is printed here."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from .formats import format_duration, format_metric

_WINDOW_SECONDS = 30.0
_SLOW = 10.0  # samples per second; below it a digit more is shown
_LONGEST_BAR, _SHORTEST_BAR = 40, 5
_PHASES = {"evaluation": "evaluating", "checkpoint": "writing a checkpoint", "ending": "ending"}
"""What ranks do besides training, by its name on their page."""


@dataclass(frozen=True)
class RunShape:
    """The length of a run and of its parts."""

    steps: int
    """Optimizer steps of the whole run."""
    steps_per_epoch: int
    batch_size: int
    """Samples of a step, on all ranks."""

    @property
    def epochs(self) -> int:
        """Epochs, the last of which may be cut short."""
        return -(-self.steps // self.steps_per_epoch)

    def epoch_at(self, step: int, *, between_steps: bool = False) -> int:
        """Return which epoch is under way once this many steps are done, from 1 on.

        Args:
            step: the steps.
            between_steps: the next one has not begun: what is done now belongs to the epoch of the last one.
        """
        return min(max(0, step - between_steps) // self.steps_per_epoch + 1, self.epochs)


class Pace:
    """Steps per second of late, and how long the steps that are left will take."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, now: float, step: int) -> None:
        """Take note that this many steps are done; fewer than before are those of a run that was rewound."""
        if self._seen and step < self._seen[-1][1]:
            self._first = None
            self._seen.clear()
        if self._seen and step == self._seen[-1][1]:
            return
        self._first = self._first or (now, step)
        self._seen.append((now, step))
        while now - self._seen[0][0] > _WINDOW_SECONDS and len(self._seen) > 2:  # noqa: PLR2004 - two make a rate
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """Steps per second of the last half minute of steps; None before two were seen."""
        if len(self._seen) < 2:  # noqa: PLR2004 - two make a rate
            return None
        (begun, first), (ended, last) = self._seen[0], self._seen[-1]
        return (last - first) / (ended - begun) if ended > begun else None

    def seconds_left(self, now: float, steps: int) -> float | None:
        """Return how long the rest of ``steps`` takes at the mean pace so far, evaluations and checkpoints included."""
        if self._first is None or self._seen[-1][1] == self._first[1]:
            return None
        (begun, first), (_, last) = self._first, self._seen[-1]
        return max(0.0, (steps - last) * (now - begun) / (last - first))


@dataclass
class Standing:
    """The place of a run at a moment."""

    step: int = 0
    """Steps done, from the run's start."""
    phase: str = "starting"
    """What the ranks do, as their page names it."""
    first: int = 0
    """The step that this attempt began at."""
    recorded: int = 0
    """Steps done, as the newest row says: a rank tells of its last step when it begins the next one."""
    loss: float | None = None
    """The newest one in the record: none is read for this."""
    samples_per_second: float | None = None
    left: float | None = None
    """Seconds."""

    def take(self, event: dict[str, Any]) -> None:
        """Take over what the row of some steps says."""
        if "train/loss" in event:
            self.loss = event["train/loss"]
        self.recorded = event["step"]
        self.samples_per_second = event.get("samples_per_second", self.samples_per_second)


def start_text(standing: Standing, processes: int) -> str:
    """Say what a run does that has not done a step; empty once it has."""
    if standing.phase == "starting":
        return f"starting {processes} rank{'s' * (processes != 1)}"
    return "" if standing.step > standing.first else _PHASES.get(standing.phase, "first step")


def progress_parts(standing: Standing, shape: RunShape) -> list[str]:
    """Return epoch, loss and rate, each where it is known."""
    other = standing.phase in _PHASES
    parts = [f"epoch {shape.epoch_at(standing.step, between_steps=other)}/{shape.epochs}"]
    if standing.phase in _PHASES:
        parts.append(_PHASES[standing.phase])
    if standing.loss is not None:
        parts.append(f"loss {format_metric('train/loss', standing.loss)}")
    if rate := standing.samples_per_second:
        parts.append(f"{rate:,.{0 if rate >= _SLOW else 1}f} samples/s")
    return parts


def progress_line(standing: Standing, shape: RunShape) -> str:
    """Return where a run stands, as a line of a log."""
    epoch, *rest = progress_parts(standing, shape)
    share = 100 * standing.step // max(1, shape.steps)
    step = f"step {standing.step:,}/{shape.steps:,} ({share} %)"
    left = [] if standing.left is None else [f"{format_duration(standing.left)} left"]
    return "  ".join([epoch, step, *rest, *left])


def bar_line(standing: Standing, shape: RunShape, beside: str, width: int, marks: str) -> str:
    """Return where a run stands, as a bar that fits a width.

    Args:
        standing: of the run.
        shape: of the run.
        beside: what happens at the same time.
        width: characters.
        marks: one for what is done, and one for what is left.
    """
    left = "" if standing.left is None else f"  {format_duration(standing.left)}"
    head = "  ".join([*progress_parts(standing, shape), *([beside] if beside else [])])
    tail = f"{standing.step:,}/{shape.steps:,}{left}"
    room = min(_LONGEST_BAR, width - len(head) - len(tail) - 4)
    done = room * standing.step // max(1, shape.steps)
    bar = f"{marks[0] * done}{marks[1] * (room - done)}  " if room >= _SHORTEST_BAR else ""
    return f"{head}  {bar}{tail}"[:width]

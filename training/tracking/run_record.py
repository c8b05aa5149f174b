"""What the record of a run tells over time: its curves, its epochs, its attempts; read once, in bounded space."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .curves import Curve, CurveBuilder
from .event_log import read_event_blocks

_COUNTERS = {"time", "event", "epoch", "epoch_number", "step"}
_PACE = {"samples_per_second", "train_seconds", "val_seconds", "memory_peak_mb"}
"""Of epochs' rows: no metrics."""
_NUMBER = (float, int)
_EPOCHS, _TOLD = 500, 200
_TELLING = (
    "start",
    "checkpoint",
    "note",
    "straggler",
    "early_stop",
    "unreached",
    "diverged",
    "diverged_rank",
    "end",
)


@dataclass
class RunRecord:
    """A run's record."""

    name: str
    curves: dict[str, Curve] = field(default_factory=dict)
    """By metric: of the rows of steps where they have it, else of those of epochs and evaluations."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """The newest rows that end an epoch."""
    told: list[dict[str, Any]] = field(default_factory=list)
    """The newest of what else was noted, attempts' starts and checkpoints among it."""
    starts: list[dict[str, Any]] = field(default_factory=list)

    @property
    def resumes(self) -> list[int]:
        """Return the steps from which a later attempt went on."""
        return sorted({start["step"] for start in self.starts if start.get("step")})

    @property
    def metrics(self) -> dict[str, Curve]:
        """Return the curves that say how good a model is, and the learning rates."""
        return {key: curve for key, curve in self.curves.items() if not _is_minor(key)}


def _is_minor(key: str) -> bool:
    return key in _PACE or key.endswith("/count")


def read_record(folder: Path, points: int) -> RunRecord:
    """Read a run's record.

    Args:
        folder: of the run.
        points: of a curve at most twice as many.
    """
    by_step: dict[str, CurveBuilder] = {}
    by_epoch: dict[str, CurveBuilder] = {}
    epochs: deque[dict[str, Any]] = deque(maxlen=_EPOCHS)
    told: deque[dict[str, Any]] = deque(maxlen=_TOLD)
    starts: deque[dict[str, Any]] = deque(maxlen=_TOLD)
    for block in read_event_blocks(folder / "metrics.jsonl"):
        steps = [event for event in block if event["event"] == "step"]
        others = [event for event in block if event["event"] != "step"] if len(steps) < len(block) else []
        evaluated = [event for event in others if event["event"] in ("epoch", "evaluation")]
        _extend(by_step, steps, points)
        _extend(by_epoch, evaluated, points)
        epochs.extend(event for event in evaluated if event["event"] == "epoch")
        told.extend(event for event in others if event["event"] in _TELLING)
        starts.extend(event for event in others if event["event"] == "start")
    curves = {key: builder.curve() for key, builder in {**by_epoch, **by_step}.items()}
    return RunRecord(folder.name, dict(sorted(curves.items())), list(epochs), list(told), list(starts))


def _extend(builders: dict[str, CurveBuilder], events: Sequence[Mapping[str, Any]], points: int) -> None:
    """Add the numbers of some rows to the curves of their names."""
    for key in {key for event in events for key in event} - _COUNTERS:
        found = [event for event in events if key in event]
        values = [event[key] for event in found]
        if not all(value is None or type(value) in _NUMBER for value in values):
            continue
        if key not in builders:
            builders[key] = CurveBuilder(points)
        builders[key].extend([event["step"] for event in found], values)


def panels(records: Iterable[RunRecord], wanted: Iterable[str] = ()) -> dict[str, list[str]]:
    """Group metrics into panels, by the last part of their names: losses first, learning rates last.

    Args:
        records: whose metrics are drawn.
        wanted: full names, or last parts; none is all.
    """
    known = list(dict.fromkeys(key for record in records for key in record.metrics))
    chosen = list(wanted)
    if chosen:
        every = list(dict.fromkeys(key for record in records for key in record.curves))
        known = [key for key in every if key in chosen or title_of(key) in chosen]
    found: dict[str, list[str]] = {}
    for key in sorted(known, key=_rank):
        found.setdefault(title_of(key), []).append(key)
    return found


def title_of(key: str) -> str:
    """Return the panel that a metric belongs to."""
    first, _, rest = key.partition("/")
    return "lr" if first == "lr" else rest or first


def _rank(key: str) -> tuple[int, str]:
    title = title_of(key)
    return (0 if title == "loss" else 2 if title == "lr" else 1, key)

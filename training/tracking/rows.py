"""The rows of a run's record that trackers get, and their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .event_log import events_backwards

_TRACKED_EVENTS = ("epoch", "step", "evaluation")


@dataclass(frozen=True)
class Row:
    """One row of the record."""

    number: int
    """Grows from row to row and depends on the training step alone: what an attempt logs again after a checkpoint
    has the number that it had before."""
    step: int
    """Optimizer steps done."""
    event: str
    """``step``; ``epoch`` for the row that ends an epoch and has its validation; ``evaluation`` for one within it."""
    time: float
    """When it was logged, in seconds since 1970."""
    values: Mapping[str, Any]
    """``step`` and ``epoch``, counted from 1, among them; None stands for a number that is not finite."""


def row_of(event: Mapping[str, Any]) -> Row | None:
    """Return the row of an event; None for an event that is none, such as a checkpoint, or is damaged."""
    if event["event"] not in _TRACKED_EVENTS or not is_numbered(event):
        return None
    values = {key: value for key, value in event.items() if key not in ("time", "event", "epoch_number")}
    if isinstance(values.get("epoch"), int):
        values["epoch"] += 1  # as the console counts
    return Row(row_number(event), int(event["step"]), event["event"], event.get("time", 0.0), values)


def is_numbered(event: Mapping[str, Any]) -> bool:
    """Tell whether an event has a step and a time, as each has that was written whole."""
    step, moment = event.get("step"), event.get("time", 0.0)
    return isinstance(step, int) and isinstance(moment, int | float)


def row_number(event: Mapping[str, Any]) -> int:
    """Return the number of an event's row; that of an epoch follows that of its last step, and its pictures'."""
    return 2 * int(event["step"]) + int(event["event"] != "step")


def last_row_number(record: Path) -> int:
    """Return the number of the newest row of a record, which is the largest; -1 where there is none."""
    return next((row.number for event in events_backwards(record) if (row := row_of(event))), -1)

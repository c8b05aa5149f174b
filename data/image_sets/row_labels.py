"""What the labels of a list's rows are as numbers: classes, several of them at once, or quantities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common import UsageError
from ..sources import MAX_LISTED_NAMES


@dataclass(frozen=True)
class RowLabels:
    """The labels of a split."""

    values: NDArray[Any]
    """int64 [rows] where each row has one class; else float32 [rows, k]."""
    problems: dict[int, str] = field(default_factory=dict)
    """Rows whose label is none, and why; their values mean nothing."""

    @property
    def are_classes(self) -> bool:
        """Whether each row has one class."""
        return self.values.ndim == 1


def class_labels(labels: Sequence[str], names: Sequence[str]) -> RowLabels:
    """Look up the class of each row."""
    index = {name: number for number, name in enumerate(names)}
    problems = {row: _label_problem(label, index) for row, label in enumerate(labels) if label not in index}
    return RowLabels(np.array([index.get(label, 0) for label in labels], np.int64), problems)


def names_within(labels: Sequence[str], separator: str) -> tuple[str, ...]:
    """List all names in fields of several, in their order.

    Raises:
        UsageError: there are none.
    """
    names = {name for label in labels for name in _names(label, separator)}
    if not names:
        raise UsageError("data.args.label_separator: no row has a label", "correct data.args.label_column")
    return tuple(sorted(names))


def multi_labels(labels: Sequence[str], names: Sequence[str], separator: str) -> RowLabels:
    """Mark which classes each row has, 1 or 0; a row may have none."""
    index = {name: number for number, name in enumerate(names)}
    values, problems = np.zeros((len(labels), len(names)), np.float32), {}
    for row, label in enumerate(labels):
        found = _names(label, separator)
        unknown = [name for name in found if name not in index]
        if unknown:
            problems[row] = _label_problem(unknown[0], index)
        values[row, [index[name] for name in found if name in index]] = 1
    return RowLabels(values, problems)


def number_labels(columns: Sequence[Sequence[str]]) -> RowLabels:
    """Read numbers, one from each column."""
    values = np.zeros((len(columns[0]), len(columns)), np.float32)
    problems: dict[int, str] = {}
    for place, column in enumerate(columns):
        for row, text in enumerate(column):
            number = _number(text)
            if number is None:
                problems.setdefault(row, f"{text!r} is not a number" if text else "a number is missing")
            else:
                values[row, place] = number
    return RowLabels(values, problems)


def _names(label: str, separator: str) -> list[str]:
    return [name for part in label.split(separator) if (name := part.strip())]


def _number(text: str) -> float | None:
    if not text.isascii() or "_" in text:
        return None  # Python reads 1_000 and digits of other scripts
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < float(np.finfo(np.float32).max) else None


def _label_problem(label: str, index: dict[str, int]) -> str:
    if not label:
        return "the label is empty"
    return f"{label!r} is none of the classes {', '.join(list(index)[:MAX_LISTED_NAMES])}"

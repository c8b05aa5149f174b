"""Curves of any length in a bounded number of points: each is the mean, the least and the largest of some rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PENDING = 1 << 14  # rows that are put together at once
Numbers = NDArray[np.float64]
Line = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Curve:
    """Points of a metric by step; each stands for as many rows as the others, the last for fewer."""

    steps: Numbers
    """The last of each point."""
    mean: Numbers
    """NaN where none of its rows was a number."""
    low: Numbers
    high: Numbers
    counts: Numbers
    """Rows that were numbers."""
    rows: int
    """In all."""
    missing: int
    """Rows that were no number."""
    last: float
    """The newest value."""

    @property
    def is_thinned(self) -> bool:
        """Tell whether a point stands for several rows."""
        return self.rows > len(self.steps)

    @property
    def extremes(self) -> tuple[float, float] | None:
        """Return the least and the largest row; None where none was a number."""
        known = self.counts > 0
        return (float(self.low[known].min()), float(self.high[known].max())) if known.any() else None

    def line(self, rows: int | None = None, *, smooth: bool = True) -> Line:
        """Return the points that are numbers, as lists of steps and of values; ``rows`` as in ``smoothed``."""
        values = self.smoothed(rows) if smooth else self.mean
        known = np.isfinite(values)
        return self.steps[known].tolist(), values[known].tolist()

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values of seven digits; what is not a number is None."""

        def plain(values: Numbers) -> list[float | None]:
            return [float(f"{value:.7g}") if math.isfinite(value) else None for value in values.tolist()]

        bounds = {"low": plain(self.low), "high": plain(self.high)} if self.is_thinned else {}
        steps = self.steps.astype(np.int64).tolist()
        return {
            "rows": self.rows,
            "missing": self.missing,
            "steps": steps,
            "mean": plain(self.mean),
            **bounds,
        }

    def smoothed(self, rows: int | None = None) -> Numbers:
        """Return the mean over about this many rows around each point.

        Args:
            rows: None is a fortieth of all.
        """
        width = max(
            1, round((self.rows / 40 if rows is None else rows) * len(self.steps) / max(1, self.rows))
        )
        before, after = (width - 1) // 2, width // 2
        weights = np.where(np.isnan(self.mean), 0.0, self.counts)
        sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(self.mean) * weights)])
        total = np.concatenate([[0.0], np.cumsum(weights)])
        places = np.arange(len(self.steps))
        first, stop = np.maximum(places - before, 0), np.minimum(places + after + 1, len(self.steps))
        weight = total[stop] - total[first]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(weight > 0, (sums[stop] - sums[first]) / weight, np.nan)


class CurveBuilder:
    """Takes the rows of a metric, and makes a bounded number of points of them.

    Args:
        points: of the curve, where there are enough rows; at most twice as many.
    """

    def __init__(self, points: int) -> None:
        self._points = points
        self._per = 1
        self._pending = np.empty((2, 0))
        self._done = np.empty((5, 0))
        self._rows = self._missing = 0
        self._last = math.nan

    def extend(self, steps: Sequence[float], values: Sequence[float | None]) -> None:
        """Add rows; a value of None is not a number."""
        rows = np.array([steps, values], dtype=np.float64)
        self._pending = np.concatenate([self._pending, rows], axis=1)
        if self._pending.shape[1] >= _PENDING:
            self._reduce()

    def _reduce(self, *, all_of_them: bool = False) -> None:
        count = self._pending.shape[1]
        if not count:
            return
        while self._done.shape[1] + count / self._per > 2 * self._points:
            self._done = _merged(self._done, 2)
            self._per *= 2
        whole = count if all_of_them else count // self._per * self._per
        steps, values = self._pending[:, :whole]
        finite = np.isfinite(values)
        self._rows, self._missing = self._rows + whole, self._missing + int((~finite).sum())
        self._last = float(self._pending[1, -1])
        self._pending = self._pending[:, whole:]
        number = np.where(finite, values, 0.0)
        low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
        rows = np.stack([steps, number, low, high, finite.astype(np.float64)])
        self._done = np.concatenate([self._done, _merged(rows, self._per)], axis=1)

    def curve(self) -> Curve:
        """Return what was added so far."""
        self._reduce(all_of_them=True)
        steps, sums, low, high, counts = self._done
        known = counts > 0
        mean = np.where(known, sums / np.where(known, counts, 1), np.nan)
        low, high = np.where(known, low, np.nan), np.where(known, high, np.nan)
        return Curve(steps, mean, low, high, counts, self._rows, self._missing, self._last)


def _merged(rows: Numbers, per: int) -> Numbers:
    """Put ``per`` columns of (last step, sum, least, largest, count) together, of the last ones what there is."""
    if per == 1 or not rows.shape[1]:
        return rows
    starts = np.arange(0, rows.shape[1], per)
    steps, sums, low, high, counts = rows
    how: list[tuple[Any, Numbers]] = [
        (np.maximum, steps),
        (np.add, sums),
        (np.minimum, low),
        (np.maximum, high),
        (np.add, counts),
    ]
    return np.stack([reduce.reduceat(values, starts) for reduce, values in how])

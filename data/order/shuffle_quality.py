"""How far an order is from a full shuffle, measured on rows that are sorted by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .sample_order import Indices, SampleOrder

CLASSES = 10
RUN = 16
"""Batches in a row that are looked at together."""
_MOST_POSITIONS = 2**16
_RUNS = 24
_SEED = 0x7175616C697479  # "quality" in ASCII


@dataclass(frozen=True)
class ShuffleQuality:
    """The variance of class counts, in units of that under a full permutation: 1 is as good as one."""

    batch: float
    """In one batch."""
    run: float
    """In ``RUN`` batches in a row."""

    def __str__(self) -> str:
        return f"{self.batch:.1f} times in a batch, {self.run:.1f} times in {RUN} batches in a row"


def measure_shuffle(order: SampleOrder, batch_size: int) -> ShuffleQuality:
    """Measure an order on rows that are sorted by class, ten classes of one size.

    Args:
        order: of the rows, sorted.
        batch_size: of the global batch.
    """
    length = min(batch_size, order.n, _MOST_POSITIONS // RUN)
    runs = max(1, min(_RUNS, _MOST_POSITIONS // (length * RUN)))
    per_run = min(RUN, order.n // length)
    counts = np.array(
        [
            [_class_counts(order, begin + batch * length, length) for batch in range(per_run)]
            for begin in np.linspace(0, order.n - per_run * length, runs).astype(np.int64).tolist()
        ]
    )
    return ShuffleQuality(
        _variance_ratio(counts.reshape(-1, CLASSES), order.n), _variance_ratio(counts.sum(1), order.n)
    )


def _class_counts(order: SampleOrder, begin: int, length: int) -> Indices:
    positions = np.arange(begin, begin + length, dtype=np.int64)
    classes = order.indices(positions, _SEED, 0) * CLASSES // order.n
    return np.bincount(classes, minlength=CLASSES).astype(np.int64)


def _variance_ratio(counts: Indices, n: int) -> float:
    """Compare the counts' mean squared deviation with that of draws without replacement."""
    drawn = int(counts[0].sum())
    if drawn in (0, n):
        return 1.0
    share = 1 / CLASSES
    expected = drawn * share * (1 - share) * (n - drawn) / (n - 1)
    return float(((counts - drawn * share) ** 2).mean() / expected)

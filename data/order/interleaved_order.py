"""The order of samples that can only be passed through: several sequences, each from its begin to its end.

Samples lie in shards, which are dealt into lanes. Every lane advances at the pace of its length, so that all of them
end with the epoch, and within a global batch the samples of a lane stand together: a contiguous part of a batch belongs
to a few lanes, and a reader passes through those only. All of it is a pure function of (seed, epoch, position).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from .counter_rng import bits
from .sample_order import Indices, permute

INTERLEAVED_ALGORITHM = 1
"""Version of everything in this file; part of the fingerprint of what is read in this order."""
MOST_LANES = 256
"""Shards that are under way at once, over all readers together."""
_SHARDS, _PHASES = 0x736861726473, 0x706861736573  # "shards" and "phases" in ASCII


@dataclass(frozen=True, eq=False)
class InterleavedOrder:
    """The order of every epoch."""

    lengths: Indices
    """Samples of each shard, int64 [shards]; the samples of a set are numbered shard by shard."""
    batch_size: int
    """Of the global batch: within one, the samples of a lane stand together."""

    @cached_property
    def n(self) -> int:
        """Return the samples of an epoch."""
        return int(self.lengths.sum())

    @cached_property
    def starts(self) -> Indices:
        """Return the number of each shard's first sample."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def lanes(self) -> int:
        """Return how many lanes there are: no more than places in a batch."""
        return min(int((self.lengths > 0).sum()), self.batch_size, MOST_LANES)

    def indices(self, positions: Indices, seed: int, epoch: int) -> Indices:
        """Return the samples at ``positions``, int64 [k]."""
        if not positions.size:
            return positions.astype(np.int64)
        lanes = _lanes(self, seed, epoch)
        found = np.empty(positions.size, np.int64)
        batches, which = np.unique(positions // self.batch_size, return_inverse=True)
        runs = np.split(batches, np.flatnonzero(np.diff(batches) > 1) + 1)
        first = 0
        for run in runs:
            begin, end = int(run[0]) * self.batch_size, min(int(run[-1] + 1) * self.batch_size, self.n)
            own = (which >= first) & (which < first + run.size)
            found[own] = lanes.samples(begin, end, self.batch_size)[positions[own] - begin]
            first += run.size
        return found


class _Lanes:
    """The lanes of one epoch: which shards each has, and how far it is at which position.

    The sample ``j`` of a lane of ``n`` has the time (j + phase) / n, in which samples of all lanes follow each other.
    """

    def __init__(self, order: InterleavedOrder, seed: int, epoch: int) -> None:
        shards = np.flatnonzero(order.lengths)
        if shards.size > order.lanes:
            shards = shards[permute(np.arange(shards.size), shards.size, (seed, epoch, _SHARDS))]
        cuts = np.arange(order.lanes + 1) * shards.size // order.lanes
        self._ends = np.cumsum(order.lengths[shards])
        """Of the shards in their sequence."""
        self._shift = order.starts[shards] - (self._ends - order.lengths[shards])
        """What the place of a sample in the sequence lacks to its number."""
        bounds = np.concatenate([[0], self._ends])[cuts]
        self._first, self._sizes = bounds[:-1], np.diff(bounds)
        drawn = bits((seed, epoch, _PHASES), np.arange(order.lanes, dtype=np.uint64))
        self._phases = (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def samples(self, begin: int, end: int, batch_size: int) -> Indices:
        """Return the samples of whole batches, from the position ``begin`` to ``end``."""
        before, after = self._passed(begin), self._passed(end)
        counts = after - before
        lane = np.repeat(np.arange(counts.size), counts)
        offset = np.arange(end - begin) - np.repeat(np.cumsum(counts) - counts, counts) + before[lane]
        rank = np.empty(end - begin, np.int64)
        rank[np.lexsort((lane, self._times(lane, offset)))] = np.arange(end - begin)
        by_batch = np.argsort(rank // batch_size, kind="stable")
        places = (self._first[lane] + offset)[by_batch]
        found: Indices = places + self._shift[np.searchsorted(self._ends, places, side="right")]
        return found

    def _passed(self, position: int) -> Indices:
        """Return how many samples of each lane come before a position."""
        total, margin = int(self._sizes.sum()), 2 * self._sizes.size
        low, high = max(0.0, (position - margin) / total), min(1.0, (position + margin) / total)
        while True:
            middle = (low + high) / 2
            passed = self._before(middle)
            count = int(passed.sum())
            if count == position:
                return passed
            if middle in (low, high):  # there is no double between them
                break
            low, high = (middle, high) if count < position else (low, middle)
        passed = self._before(low)
        tied = np.flatnonzero(self._before(high) > passed)  # in the order of lanes, as they are sorted
        passed[tied[: position - int(passed.sum())]] += 1
        return passed

    def _before(self, time: float) -> Indices:
        """Count the samples of each lane whose time is before ``time``; all of them are before 1."""
        if time >= 1:
            return self._sizes.copy()
        lane = np.arange(self._sizes.size)
        count = np.clip(np.ceil(time * self._sizes - self._phases).astype(np.int64), 0, self._sizes)
        while (over := (count > 0) & (self._times(lane, count - 1) >= time)).any():
            count -= over
        while (under := (count < self._sizes) & (self._times(lane, count) < time)).any():
            count += under
        return count

    def _times(self, lane: NDArray[np.int64], offset: Indices) -> NDArray[np.float64]:
        times: NDArray[np.float64] = (offset + self._phases[lane]) / self._sizes[lane]
        return times


@lru_cache(maxsize=4)
def _lanes(order: InterleavedOrder, seed: int, epoch: int) -> _Lanes:
    return _Lanes(order, seed, epoch)

"""The order of samples and who owns which: pure integer functions of (seed, epoch, position).

The permutation is a Feistel network over a mixed radix a*b >= n with cycle walking (Black and Rogaway,
"Ciphers with Arbitrary Finite Domains", 2002): O(1) memory, any n, random access. Eight rounds, because six
show a 2 % excess of adjacent pairs at n = 50. The round function is a 32-bit multiply-xorshift hash, keyed by
``numpy.random.SeedSequence``, whose stream NumPy promises to keep.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import isqrt
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Words = NDArray[np.uint64]
Radix = np.uint64 | Words
RoundKey = np.uint32 | NDArray[np.uint32]

ALGORITHM = 1
"""Version of everything in this file; a checkpoint of another version is not resumed."""

ROUNDS = 8
MAX_SAMPLES = 2**48  # above it a radix exceeds 2**24 and the 32-bit round output is visibly biased
_CHUNK = 16_384  # positions per NumPy call: 35 ns per index, against 165 ns in calls of 256


def permute(positions: Indices, n: int, key: tuple[int, ...]) -> Indices:
    """Map ``positions`` through the permutation of ``range(n)`` that ``key`` selects.

    Args:
        positions: int64 [k], each in [0, n).
        n: size of the permuted range, at most 2**48.
        key: integers in [0, 2**64); different keys give independent permutations.

    Returns:
        int64 [k], distinct for distinct positions.
    """
    if n > MAX_SAMPLES:
        raise ValueError(f"a permutation of {n} samples; the order is defined up to 2**48")
    rows = isqrt(n - 1) + 1
    columns = -(-n // rows)
    keys = _round_keys(key)
    images = feistel(positions.astype(np.uint64), np.uint64(rows), np.uint64(columns), keys)
    outside = np.flatnonzero(images >= n)
    while outside.size:
        images[outside] = feistel(images[outside], np.uint64(rows), np.uint64(columns), keys)
        outside = outside[images[outside] >= n]
    return images.astype(np.int64)


@lru_cache(maxsize=64)
def _round_keys(key: tuple[int, ...]) -> tuple[np.uint32, ...]:
    # Two words for every number: SeedSequence itself would take (s + 2**32, 0) and (s, 1) for the same key.
    words = [word for number in key for word in (number & 0xFFFFFFFF, number >> 32)]
    return tuple(np.random.SeedSequence(words).generate_state(ROUNDS, np.uint32))


def feistel(values: Words, rows: Radix, columns: Radix, keys: Iterable[RoundKey]) -> Words:
    """Permute ``values`` of [0, rows * columns).

    Args:
        values: uint64 [k].
        rows: the left half's radix, for all values or for each.
        columns: the right half's.
        keys: of the rounds, for all values or for each.
    """
    left = values // columns  # with the product, a third of what divmod takes
    right = values - left * columns
    for number, key in enumerate(keys):
        if number % 2 == 0:
            left = _feistel_round(left, right, rows, key)
        else:
            right = _feistel_round(right, left, columns, key)
    return left * columns + right


def _feistel_round(half: Words, other: Words, radix: Radix, key: RoundKey) -> Words:
    """Compute ``(half + F(other)) mod radix``, F uniform on [0, radix) by multiplication instead of division."""
    moved = _hash32(other.astype(np.uint32), key).astype(np.uint64)
    moved *= radix
    moved >>= np.uint64(32)
    moved += half
    # What is below the radix wraps around to far above it.
    reduced: Words = np.minimum(moved, moved - radix)
    return reduced


def _hash32(values: NDArray[np.uint32], key: RoundKey) -> NDArray[np.uint32]:
    mixed = (values ^ key) * np.uint32(0x9E3779B1)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x85EBCA77)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE3D)
    mixed ^= mixed >> np.uint32(16)
    return mixed


class SampleOrder(Protocol):
    """A rule that says which sample stands at each position of each epoch."""

    @property
    def n(self) -> int:
        """Return the positions of an epoch."""
        ...

    def indices(self, positions: Indices, seed: int, epoch: int) -> Indices:
        """Return the samples at ``positions``, int64 [k]."""
        ...


@dataclass(frozen=True)
class FullOrder:
    """One keyed permutation of all samples in each epoch."""

    n: int

    def indices(self, positions: Indices, seed: int, epoch: int) -> Indices:
        """Return the samples at ``positions``, int64 [k]."""
        return permute(positions, self.n, (seed, epoch))


class EpochOrder:
    """The shuffled sequence of one epoch, computed in chunks on demand.

    Args:
        order: of the samples; a number is a full permutation of this many.
        seed: the run's seed.
        epoch: counted from 0; a different epoch is a different order, so it cannot be forgotten.
    """

    def __init__(self, order: SampleOrder | int, seed: int, epoch: int) -> None:
        self._order = FullOrder(order) if isinstance(order, int) else order
        self.n = self._order.n
        self._key = (seed, epoch)
        self._start = 0
        self._chunk: Indices = np.empty(0, np.int64)

    def indices(self, start: int, stop: int) -> Indices:
        """Return the sample indices at positions [start, stop), int64 [stop - start]; a view where that is cheap."""
        if not (self._start <= start and stop <= self._start + self._chunk.size):
            end = min(self.n, max(stop, start + _CHUNK))
            self._chunk = self._order.indices(np.arange(start, end, dtype=np.int64), *self._key)
            self._start = start
        return self._chunk[start - self._start : stop - self._start]


def shard(start: int, stop: int, rank: int, world_size: int) -> tuple[int, int]:
    """Return the positions [a, b) of [start, stop) that belong to ``rank``: disjoint, complete, equal to within one."""
    size = stop - start
    return start + size * rank // world_size, start + size * (rank + 1) // world_size


def logical_shards(size: int, rank: int, world_size: int, logical_ranks: int) -> list[tuple[int, int, int]]:
    """Return (logical rank, begin, end) of each logical rank of ``rank`` that has samples of a batch of ``size``.

    The batch is cut into ``logical_ranks`` parts, whatever the number of processes; a process has some in a row.
    """
    own = range(*shard(0, logical_ranks, rank, world_size))
    parts = [(number, *shard(0, size, number, logical_ranks)) for number in own]
    return [(number, begin, end) for number, begin, end in parts if begin < end]


@dataclass(frozen=True)
class EpochBatches:
    """The cut of one epoch of ``n`` samples into global batches of ``batch_size``, the last one short.

    Step s owns positions [s*G, min((s+1)*G, n)), whatever the number of processes.
    """

    n: int
    batch_size: int
    logical_ranks: int | None = None
    """Parts that each batch is cut into, of which a process has some in a row; None is a part for each process."""

    @property
    def steps(self) -> int:
        """Optimizer steps in one epoch."""
        return -(-self.n // self.batch_size)

    def span(self, step: int) -> tuple[int, int]:
        """Return positions [start, stop) of step ``step`` of the epoch."""
        start = step * self.batch_size
        return start, min(start + self.batch_size, self.n)

    def size(self, step: int) -> int:
        """Count the samples in step ``step`` over all ranks."""
        start, stop = self.span(step)
        return stop - start

    def shard(self, step: int, rank: int, world_size: int) -> tuple[int, int]:
        """Return the positions of step ``step`` that belong to ``rank``."""
        start, stop = self.span(step)
        begin, end = self._rank_span(stop - start, rank, world_size)
        return start + begin, start + end

    def parts(self, size: int, rank: int, world_size: int) -> list[tuple[int, int, int]]:
        """Return (number, begin, end) of each part of a batch of ``size`` that belongs to ``rank`` and has samples."""
        return logical_shards(size, rank, world_size, self.logical_ranks or world_size)

    def micro_batches(self, size: int, rank: int, world_size: int, limit: int | None) -> list[int]:
        """Return the sizes of the micro-batches of ``rank`` in a batch of ``size``, none larger than ``limit``."""
        parts = self.parts(size, rank, world_size)
        return [samples for _, begin, end in parts for samples in micro_batch_sizes(end - begin, limit)]

    def _rank_span(self, size: int, rank: int, world_size: int) -> tuple[int, int]:
        parts = self.parts(size, rank, world_size)
        return (parts[0][1], parts[-1][2]) if parts else (0, 0)

    def samples_of_rank(self, rank: int, world_size: int) -> int:
        """Count the samples that ``rank`` trains on in one epoch."""
        full, rest = divmod(self.n, self.batch_size)
        a, b = self._rank_span(self.batch_size, rank, world_size)
        c, d = self._rank_span(rest, rank, world_size)
        return full * (b - a) + (d - c)


def micro_batch_sizes(samples: int, limit: int | None) -> list[int]:
    """Cut ``samples`` of one rank into micro-batches, as few and equal as possible, and return their sizes."""
    if samples == 0:
        return []
    parts = 1 if limit is None else -(-samples // limit)
    return [stop - start for start, stop in (shard(0, samples, part, parts) for part in range(parts))]

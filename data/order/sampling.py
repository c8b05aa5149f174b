"""Epochs in which samples do not all come once: mixtures of parts, and weights. All are functions of a position.

A position of an epoch is first permuted, so that whatever follows is spread evenly over the epoch. Then it is that
part's turn into whose share it falls; a part is passed through in permutations of its own, one after another and
across the ends of epochs. So a part's samples come equally often, to within one, after any number of steps of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from . import counter_rng
from .sample_order import MAX_SAMPLES, ROUNDS, Indices, feistel, permute

_PARTS = 0x7061727473  # "parts" in ASCII: apart from every other stream of the seed
_ROUND_KEYS = 0x726F756E6473  # "rounds"
_WEIGHTS = 0x77656967687473  # "weights"
_MOST_DRAWS = 2**33
"""Then 20 bits are left for the place within a draw's share of all weights."""


def share_out(weights: Sequence[float], size: int) -> tuple[int, ...]:
    """Cut ``size`` into whole parts in proportion to ``weights``: rounded down, and the largest remainders up."""
    exact = [Fraction(weight) for weight in weights]
    quotas = [weight * size / sum(exact) for weight in exact]
    shares = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda part: shares[part] - quotas[part])
    for part in by_remainder[: size - sum(shares)]:
        shares[part] += 1
    return tuple(shares)


def permute_each(places: Indices, sizes: Indices, keys: NDArray[np.uint64]) -> Indices:
    """Map each place through a permutation of its own, ``range(sizes[i])`` by ``keys[i]``, all at once.

    Args:
        places: int64 [k], each in [0, its size).
        sizes: int64 [k], at most 2**48.
        keys: uint64 [k].
    """
    radices, which = np.unique(sizes, return_inverse=True)
    rows = np.array([isqrt(n - 1) + 1 for n in radices.tolist()], np.uint64)
    columns = (radices.astype(np.uint64) + rows - np.uint64(1)) // rows
    rows, columns, bound = rows[which], columns[which], sizes.astype(np.uint64)
    with np.errstate(over="ignore"):
        rounds = [
            (counter_rng.bits((_ROUND_KEYS, number), keys) >> np.uint64(32)).astype(np.uint32)
            for number in range(ROUNDS)
        ]
    images = feistel(places.astype(np.uint64), rows, columns, rounds)
    outside = np.flatnonzero(images >= bound)
    while outside.size:
        own = [key[outside] for key in rounds]
        images[outside] = feistel(images[outside], rows[outside], columns[outside], own)
        outside = outside[images[outside] >= bound[outside]]
    return images.astype(np.int64)


@dataclass(frozen=True)
class MixedOrder:
    """Parts of a data set, each with a fixed share of every epoch.

    In epoch e a part of n samples and share s gives its draws e * s to (e + 1) * s - 1; draw d is the sample at place
    d mod n of its (d div n)-th pass, and each pass is another permutation.
    """

    sizes: tuple[int, ...]
    """Samples of each part, which follow one another in the data set."""
    shares: tuple[int, ...]
    """Positions of each part in an epoch."""
    rows: Indices | None = None
    """The samples in the order of the parts; None is their own order."""

    def __post_init__(self) -> None:
        for size, share in zip(self.sizes, self.shares, strict=True):
            if share and not 0 < size <= MAX_SAMPLES:
                raise ValueError(f"{share} of {size} samples; a part has 1 to 2**48")

    @property
    def n(self) -> int:
        """Return the positions of an epoch."""
        return sum(self.shares)

    @cached_property
    def _ends(self) -> tuple[Indices, Indices]:
        return np.cumsum(self.shares, dtype=np.int64), np.cumsum(self.sizes, dtype=np.int64)

    def parts(self, positions: Indices, seed: int, epoch: int) -> tuple[Indices, Indices]:
        """Return whose turn it is at ``positions`` [k], and which draw of the part in the epoch it is, int64 [k]."""
        turns = permute(positions, self.n, (seed, epoch))
        ends, _ = self._ends
        part = np.searchsorted(ends, turns, side="right")
        return part, turns - (ends - np.array(self.shares, np.int64))[part]

    def indices(self, positions: Indices, seed: int, epoch: int) -> Indices:
        """Return the samples at ``positions`` [k] of an epoch, int64 [k]."""
        part, draw = self.parts(positions, seed, epoch)
        sizes, shares = np.array(self.sizes, np.int64)[part], np.array(self.shares, np.int64)[part]
        passes, places = np.divmod(draw + epoch * shares, sizes)
        with np.errstate(over="ignore"):
            counters = counter_rng.bits((_PARTS, seed), part.astype(np.uint64)) + passes.astype(np.uint64)
            keys = counter_rng.bits((_PARTS, seed, 1), counters)
        rows = permute_each(places, sizes, keys) + (self._ends[1][part] - sizes)
        return rows if self.rows is None else self.rows[rows]


def cumulate(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum up weights in their order, as ``WeightedOrder`` needs them; equal ones become whole numbers.

    Args:
        weights: [n], finite and not negative, one of them positive.
    """
    return np.cumsum(weights / weights.max())


@dataclass(frozen=True)
class WeightedOrder:
    """Samples drawn with replacement, each with a probability in proportion to its weight.

    The sum of all weights is cut into as many equal strata as there are draws, one draw is made in each, and the
    strata come in the order of a permutation. So the probability of a sample is exact at every position, and how
    often it comes in an epoch differs from the expected number by less than 2; with equal weights all come once.
    """

    cumulative: NDArray[np.float64]
    """Of ``cumulate``, [n]."""
    n: int
    """Draws in an epoch."""

    def __post_init__(self) -> None:
        if self.n > _MOST_DRAWS:
            raise ValueError(f"{self.n} draws in an epoch; weights are exact up to 2**33")

    def indices(self, positions: Indices, seed: int, epoch: int) -> Indices:
        """Return the samples at ``positions`` [k] of an epoch, int64 [k]."""
        strata = permute(positions, self.n, (seed, epoch))
        precision = 53 - self.n.bit_length()
        drawn = counter_rng.bits((_WEIGHTS, seed, epoch), strata.astype(np.uint64))
        within = (drawn >> np.uint64(64 - precision)).astype(np.float64) * 2.0**-precision
        total = float(self.cumulative[-1])
        points = (strata + within) * (total / self.n)
        rows = np.searchsorted(self.cumulative, points, side="right")
        # Rounding may reach the total itself: then it is the last sample that has a weight.
        last = int(np.searchsorted(self.cumulative, total, side="left"))
        return np.minimum(rows, last).astype(np.int64)

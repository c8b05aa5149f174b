"""The order of rows that lie in groups which are read as a whole: shuffled within a window of groups.

Row groups are permuted anew in every epoch, and their sequence is cut into as many stretches (lanes) as the window has
groups. Every place of the global batch belongs to one lane, which walks through its stretch group after group; within
a group the rows are permuted. A contiguous part of a batch therefore belongs to a few lanes and reads a few groups,
wherever the cuts lie. All of it is a pure function of (seed, epoch, position), with nothing that depends on a rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from .counter_rng import bits
from .row_groups import RowGroups
from .sample_order import Indices, Words, feistel, permute

WINDOW_ALGORITHM = 1
"""Version of everything in this file; part of the fingerprint of what is read in this order."""

_ROUNDS = 8
_LONGEST_TABLE = 2**16
_GROUPS, _ROWS, _SHORT = 0x67726F757073, 0x726F7773, 0x73686F7274  # "groups", "rows" and "short" in ASCII


@dataclass(frozen=True)
class WindowOrder:
    """The order of every epoch.

    A turn is as many whole batches as are needed for each lane to have a place: within one, every lane is read.
    """

    groups: RowGroups
    batch_size: int
    """Of the global batch: its places belong to lanes."""
    window: int
    """Lanes, and so the groups in flight."""

    @property
    def n(self) -> int:
        """Rows of an epoch."""
        return self.groups.n

    @cached_property
    def lanes(self) -> int:
        """Return how many lanes there are: no more than groups."""
        return min(self.window, self.groups.count)

    @cached_property
    def batches_per_turn(self) -> int:
        """Return the batches after which every lane has been read."""
        return -(-self.lanes // self.batch_size)

    @property
    def turn_size(self) -> int:
        """Return the positions of a turn."""
        return self.batches_per_turn * self.batch_size

    def indices(self, positions: Indices, seed: int, epoch: int) -> Indices:
        """Return the rows at ``positions``, int64 [k]."""
        sequence = _sequence(self.groups, seed, epoch)
        numbers, offsets = sequence.locate(self._places(positions))
        numbers, which = np.unique(numbers, return_inverse=True)
        groups = sequence.groups(numbers)
        rows = _permute_within(offsets, groups, which, self.groups.sizes(groups), (seed, epoch, _ROWS))
        return self.groups.starts(groups)[which] + rows

    def lane_of(self, position: int) -> int:
        """Return the lane that a position reads from."""
        column = self._columns(np.array([position], np.int64))[1]
        return int(((column + 1) * self.lanes - 1)[0] // self.turn_size)

    def _columns(self, positions: Indices) -> tuple[Indices, Indices]:
        """Return the turn of each position, and its column: the places of a batch, each with the turn's batches."""
        turn = positions // self.turn_size  # with the product, a third of what divmod takes
        within = positions - turn * self.turn_size
        batch = within // self.batch_size
        place = within - batch * self.batch_size
        return turn, place * self.batches_per_turn + batch

    def _places(self, positions: Indices) -> Indices:
        """Return the place of each position in the sequence of groups: lane by lane, each turn by turn."""
        turns, columns = self._columns(positions)
        full = self.n // self.turn_size
        if self._by_column is not None and (turns < full).all():
            begins, widths = self._by_column
            return begins[columns] + turns * widths[columns]
        return self._place(turns, columns)

    def _place(self, turns: Indices, columns: Indices) -> Indices:
        lanes = ((columns + 1) * self.lanes - 1) // self.turn_size
        first, following = lanes * self.turn_size // self.lanes, (lanes + 1) * self.turn_size // self.lanes
        full = self.n // self.turn_size
        before = self._in_last_turn(first)
        within = np.where(turns < full, columns - first, self._in_last_turn(columns) - before)
        return first * full + before + turns * (following - first) + within

    @cached_property
    def _by_column(self) -> tuple[Indices, Indices] | None:
        """Return the place of each column in the first turn, and how far on that of the next one is.

        None where turns are so long that what they save in each batch is not worth the memory.
        """
        if self.turn_size > _LONGEST_TABLE or self.n < 2 * self.turn_size:
            return None
        columns = np.arange(self.turn_size, dtype=np.int64)
        begins = self._place(np.zeros_like(columns), columns)
        return begins, self._place(np.ones_like(columns), columns) - begins

    def _in_last_turn(self, columns: Indices) -> Indices:
        """Count the columns before each of ``columns`` that the last, short turn has."""
        whole, rest = divmod(self.n % self.turn_size, self.batch_size)
        place, batch = np.divmod(columns, self.batches_per_turn)
        before: Indices = place * whole + np.minimum(place, rest) + np.minimum(batch, whole + (place < rest))
        return before


class _Regular:
    """The sequence of groups of one size: computed, not stored. A shorter group stands anywhere in it."""

    def __init__(self, groups: RowGroups, seed: int, epoch: int) -> None:
        self._size = groups.size
        self._key = (seed, epoch, _GROUPS)
        self._full, self._rest = divmod(groups.n, groups.size)
        drawn = int(bits((seed, epoch, _SHORT), np.zeros(1, np.uint64))[0])
        self._short = (drawn >> 16) % groups.count if self._rest else groups.count
        """The number of the shorter group."""

    def locate(self, places: Indices) -> tuple[Indices, Indices]:
        """Return the number of the group at each place, and how far behind its first place that is."""
        missing = self._size - self._rest
        places = places + np.where(places >= self._short * self._size + self._rest, missing, 0)
        numbers = places // self._size
        return numbers, places - numbers * self._size

    def groups(self, numbers: Indices) -> Indices:
        """Return which group stands at each number of the sequence."""
        among_full = np.minimum(numbers - (numbers > self._short), max(0, self._full - 1))
        found = permute(among_full, self._full, self._key) if self._full else among_full
        return np.where(numbers == self._short, self._full, found)


class _Irregular:
    """The sequence of groups of any sizes: 16 bytes for each."""

    def __init__(self, groups: RowGroups, seed: int, epoch: int) -> None:
        every = np.arange(groups.count, dtype=np.int64)
        self._order = permute(every, groups.count, (seed, epoch, _GROUPS))
        self._ends = np.cumsum(groups.sizes(self._order))

    def locate(self, places: Indices) -> tuple[Indices, Indices]:
        """Return the number of the group at each place, and how far behind its first place that is."""
        numbers = np.searchsorted(self._ends, places, side="right")
        return numbers, places - np.where(numbers > 0, self._ends[numbers - 1], 0)

    def groups(self, numbers: Indices) -> Indices:
        """Return which group stands at each number of the sequence."""
        return self._order[numbers]


@lru_cache(maxsize=4)
def _sequence(groups: RowGroups, seed: int, epoch: int) -> _Regular | _Irregular:
    return _Regular(groups, seed, epoch) if groups.regular else _Irregular(groups, seed, epoch)


def _permute_within(
    offsets: Indices,
    groups: Indices,
    which: NDArray[np.intp],
    sizes: Indices,
    key: tuple[int, ...],
) -> Indices:
    """Permute each offset in the range of its group's size, by a key of the group's own.

    Args:
        offsets: int64 [k].
        groups: int64 [m], distinct.
        which: [k], the number of each offset's group among ``groups``.
        sizes: int64 [m], of the groups.
        key: of all of them.
    """
    counters = (
        groups.astype(np.uint64)[None] * np.uint64(_ROUNDS) + np.arange(_ROUNDS, dtype=np.uint64)[:, None]
    )
    keys = (bits(key, counters) >> np.uint64(32)).astype(np.uint32)
    rows, columns = _radices(sizes)
    values = feistel(offsets.astype(np.uint64), rows[which], columns[which], keys[:, which])
    limits = sizes.astype(np.uint64)[which]
    pending = np.flatnonzero(values >= limits)
    while pending.size:
        of = which[pending]
        values[pending] = feistel(values[pending], rows[of], columns[of], keys[:, of])
        pending = pending[values[pending] >= limits[pending]]
    return values.astype(np.int64)


def _radices(sizes: Indices) -> tuple[Words, Words]:
    """Return rows and columns, the smallest near-square with at least ``sizes`` places."""
    rows = np.sqrt(sizes.astype(np.float64)).astype(np.int64)
    rows += rows * rows < sizes
    return rows.astype(np.uint64), (-(-sizes // rows)).astype(np.uint64)

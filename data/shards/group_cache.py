"""The groups of rows that a reader holds: those of its lanes, and no longer than it needs them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..order import Indices
from .row_store import RowStore
from .shard_format import RowGroup

_NEVER = -(2**62)
"""The turn of a group that was read outside of any."""


class GroupCache:
    """Holds groups that will be read again.

    Each has a slot. What concerns one row of a batch is arithmetic on arrays; only a group that is read or let go has
    lines of its own.

    Args:
        count: of all groups.
        load: reads a group, and says how many rows it has.
        most: groups that are held for reads outside of any turn; the least recently used goes first.
        keep: holds every group for ever.
    """

    def __init__(
        self, count: int, load: Callable[[int], tuple[RowGroup, int]], most: int, *, keep: bool = False
    ) -> None:
        self._load = load
        self._most = most
        self._keep = keep
        self._count = count
        self._clock = 0
        self._slot_of = np.empty(0, np.int32)
        """[groups]; -1 where one is not held. Made at the first read."""
        self._group = np.empty(0, np.int64)
        """[slots]; -1 where one is free."""
        self._first, self._rows, self._left, self._turn, self._used = (
            np.empty(0, np.int64) for _ in range(5)
        )
        self._rest: list[RowGroup | None] = []
        self.store = RowStore()
        """The columns of numbers."""

    def __len__(self) -> int:
        return int((self._group >= 0).sum())

    def holds(self, group: int) -> bool:
        """Tell whether a group is held."""
        return bool(self._slot_of.size and self._slot_of[group] >= 0)

    def hold(self, groups: Indices, turns: Indices | None = None) -> NDArray[np.int32]:
        """Have the groups of rows that are taken now, until ``let_go``.

        Args:
            groups: of each row, int64 [k].
            turns: of the order, int64 [k], ascending, where rows are read in turns; a group that the last two turns did
                not read is let go.

        Returns:
            The slot of each row's group, [k].
        """
        if not self._slot_of.size:
            self._slot_of = np.full(self._count, -1, np.int32)
        if turns is not None:
            self._forget(int(turns[0]) - 1)
        slots = self._slot_of[groups]
        if (missing := groups[slots < 0]).size:
            for group in np.unique(missing).tolist():
                self._enter(group)
            slots = self._slot_of[groups]
        self._left -= np.bincount(slots, minlength=self._left.size)
        self._used[slots] = np.arange(self._clock, self._clock + slots.size)
        self._clock += slots.size
        if turns is not None:
            self._turn[slots] = turns  # of a group's rows the last one stays
        return slots

    def let_go(self, *, in_turn: bool) -> None:
        """Let groups go: in turns those of which every row was taken, else all but those that were read last."""
        if self._keep:
            return
        if in_turn:
            self._drop(np.flatnonzero((self._group >= 0) & (self._left <= 0)))
        elif (spare := len(self) - self._most) > 0:
            held = np.flatnonzero(self._group >= 0)
            self._drop(held[np.argsort(self._used[held], kind="stable")[:spare]])

    def places(self, slots: NDArray[np.int32], within: Indices) -> Indices:
        """Return where rows lie in the store."""
        return self._first[slots] + within

    def group_of(self, slot: int) -> int:
        """Return which group has a slot."""
        return int(self._group[slot])

    def rest(self, slot: int) -> RowGroup | None:
        """Return a group's columns that are not in the store; None where all are."""
        return self._rest[slot]

    @property
    def all_stored(self) -> bool:
        """Tell whether every column of every group is in the store."""
        return all(rest is None for rest in self._rest)

    def _forget(self, oldest: int) -> None:
        if not self._keep and self._turn.size:
            self._drop(np.flatnonzero((self._group >= 0) & (self._turn < oldest)))

    def _enter(self, group: int) -> None:
        loaded, rows = self._load(group)
        arrays, rest = loaded.parts()
        first, unlike = self.store.put(arrays, rows)
        free = np.flatnonzero(self._group < 0)
        slot = int(free[0]) if free.size else self._add_slots()
        self._group[slot], self._first[slot], self._rows[slot] = group, first, rows
        self._left[slot], self._turn[slot] = rows, _NEVER
        self._rest[slot] = loaded if unlike else rest
        self._slot_of[group] = slot

    def _add_slots(self) -> int:
        before = self._group.size
        more = max(8, before)
        self._group = np.concatenate([self._group, np.full(more, -1, np.int64)])
        for name in ("_first", "_rows", "_left", "_turn", "_used"):
            setattr(self, name, np.concatenate([getattr(self, name), np.zeros(more, np.int64)]))
        self._rest += [None] * more
        return before

    def _drop(self, slots: NDArray[np.intp]) -> None:
        for slot in slots.tolist():
            self._slot_of[self._group[slot]] = -1
            self._group[slot] = -1
            self._rest[slot] = None
            self.store.drop(int(self._first[slot]), int(self._rows[slot]))

"""Numbers of the groups that a reader holds, in one array for each column: a batch is taken from it at once."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..order import Indices

_GROWTH = 1.5


class RowStore:
    """Rows of several groups, one behind the other, with room for more where groups were dropped.

    Taking the rows of a batch group by group costs a few microseconds for each group, and a batch has rows of as many
    groups as are in flight.
    """

    def __init__(self) -> None:
        self._columns: dict[str, NDArray[Any]] = {}
        self._capacity = 0
        self._free: list[tuple[int, int]] = []
        """Begin and end of each free stretch, ascending."""

    def put(self, arrays: Mapping[str, NDArray[Any]], rows: int) -> tuple[int, dict[str, NDArray[Any]]]:
        """Copy a group.

        Args:
            arrays: its columns, [rows, ...] each.
            rows: of the group.

        Returns:
            The place of its first row, and those of its columns that are of another type than those held.
        """
        first = self._find_room(rows)
        unlike = {}
        for name, values in arrays.items():
            held = self._columns.get(name)
            if held is None:
                held = np.empty((self._capacity, *values.shape[1:]), values.dtype)
                self._columns[name] = held
            if (held.dtype, held.shape[1:]) == (values.dtype, values.shape[1:]):
                held[first : first + rows] = values
            else:
                unlike[name] = values
        return first, unlike

    def drop(self, first: int, rows: int) -> None:
        """Let a group go."""
        insort(self._free, (first, first + rows))
        merged: list[tuple[int, int]] = []
        for begin, end in self._free:
            if merged and merged[-1][1] == begin:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((begin, end))
        self._free = merged
        if merged == [(0, self._capacity)]:
            self._columns.clear()

    @property
    def names(self) -> list[str]:
        """Return the columns of which some are held."""
        return list(self._columns)

    def take(self, name: str, places: Indices) -> NDArray[Any]:
        """Return a column's values at ``places`` [k], as a new array [k, ...]."""
        return self._columns[name].take(places, axis=0)

    def _find_room(self, rows: int) -> int:
        for at, (begin, end) in enumerate(self._free):
            if end - begin >= rows:
                self._free[at : at + 1] = [(begin + rows, end)] if end - begin > rows else []
                return begin
        self._grow(rows)
        return self._find_room(rows)

    def _grow(self, rows: int) -> None:
        """Make room behind the last row, of which a free stretch may be a part."""
        before = self._capacity
        self._capacity = max(before + rows, int(before * _GROWTH))
        for name, held in self._columns.items():
            self._columns[name] = np.empty((self._capacity, *held.shape[1:]), held.dtype)
            self._columns[name][:before] = held
        if self._free and self._free[-1][1] == before:
            self._free[-1] = (self._free[-1][0], self._capacity)
        else:
            self._free.append((before, self._capacity))

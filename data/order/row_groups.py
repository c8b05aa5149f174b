"""Rows that lie in groups, one after the other: which group a row is in, and where the groups lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .sample_order import Indices

_STARTS_LOOKED_AT = 2**20
"""At a time, so that looking at ten million groups takes no memory of that size."""


@dataclass(frozen=True, eq=False)
class RowGroups:
    """The cut of rows into groups of at least one row.

    Groups that are all of one size, but for a shorter last one, are kept as two numbers.
    """

    n: int
    """Rows."""
    count: int
    """Groups."""
    size: int
    """Rows of the first group, and of all others where they are regular."""
    first_rows: Indices | None = None
    """int64 [groups + 1]; None where the groups are regular."""

    @classmethod
    def at(cls, starts: Indices) -> RowGroups:
        """Cut rows at ``starts``, int64 [groups + 1], which may be mapped from a file."""
        n, count, size = int(starts[-1]), starts.size - 1, int(starts[1] - starts[0])
        return cls(n, count, size, None if _is_regular(starts, size) else starts)

    @classmethod
    def of_size(cls, n: int, size: int) -> RowGroups:
        """Cut ``n`` rows into groups of ``size``."""
        return cls(n, -(-n // size), min(n, size))

    @property
    def regular(self) -> bool:
        """Tell whether all groups are of one size, but for a shorter last one."""
        return self.first_rows is None

    def starts(self, groups: Indices) -> Indices:
        """Return the first row of each of ``groups``; of the group behind the last, ``n``."""
        if self.first_rows is None:
            return np.minimum(groups * self.size, self.n)
        return np.asarray(self.first_rows[groups])

    def sizes(self, groups: Indices) -> Indices:
        """Return the rows of each of ``groups``."""
        return self.starts(groups + 1) - self.starts(groups)

    def group_of(self, rows: Indices) -> Indices:
        """Return the group of each row, in O(log groups)."""
        if self.first_rows is None:
            return rows // self.size
        found: Indices = np.searchsorted(self.first_rows, rows, side="right") - 1
        return found


def _is_regular(starts: Indices, size: int) -> bool:
    last = starts.size - 2
    for begin in range(0, last, _STARTS_LOOKED_AT):
        some = np.diff(starts[begin : min(begin + _STARTS_LOOKED_AT, last) + 1])
        if (some != size).any():
            return False
    return bool(starts[-1] - starts[-2] <= size)

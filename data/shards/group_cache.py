"""The groups of rows that a reader holds: those of its lanes, and no longer than it needs them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from .shard_format import RowGroup

Turn = tuple[int, int]
"""An epoch, and a turn of its order: within one, every group in flight is read."""


@dataclass
class _Held:
    rows: RowGroup
    left: int
    """Rows that have not been taken; with none the group is done with."""
    turn: Turn


class GroupCache:
    """Holds groups that will be read again.

    Args:
        load: reads a group, and says how many rows it has.
        most: groups that are held for reads outside of any turn; the least recently used goes first.
        keep: holds every group for ever.
    """

    def __init__(self, load: Callable[[int], tuple[RowGroup, int]], most: int, *, keep: bool = False) -> None:
        self._load = load
        self._most = most
        self._keep = keep
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._turn: Turn | None = None

    def __len__(self) -> int:
        return len(self._held)

    def take(self, group: int, rows: int, turn: Turn | None = None) -> RowGroup:
        """Return a group, of which so many rows are taken.

        Args:
            group: its number.
            rows: that are taken; a group that was taken as a whole is let go.
            turn: of the order, where it is read in one; a group that the last two turns did not read is let go.
        """
        if turn is not None and turn != self._turn:
            self._forget(turn)
        held = self._held.pop(group, None)
        if held is None:
            held = _Held(*self._load(group), turn or (-1, -1))
        held.left -= rows
        held.turn = turn or held.turn
        if self._keep or turn is None or held.left > 0:
            self._held[group] = held
        if turn is None and not self._keep:
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        return held.rows

    def _forget(self, turn: Turn) -> None:
        self._turn = turn
        if not self._keep:
            alive = (turn, (turn[0], turn[1] - 1))
            self._held = OrderedDict(
                (group, held) for group, held in self._held.items() if held.turn in alive
            )

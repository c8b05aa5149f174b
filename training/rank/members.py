"""The processes of an elastic run: each keeps its number for as long as it lives, and ranks are counted anew. No torch.

A world is the numbers of its processes, and a process's rank is its place among them. They are in order from the first
one on, which is rank 0 for as long as it lives, and go round. So the last processes leave, and who stays keeps its log
and its row of the control page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WORD_BITS = 64
_BIT_WORDS = 4
MEMBER_WORDS = _BIT_WORDS + 1
MOST_PROCESSES = _WORD_BITS * _BIT_WORDS
Members = tuple[int, ...]
PAGE_ROW = "LOCKSTEP_PAGE_ROW"
"""Variable with the row of a rank in its page, where that is not its local rank."""
JOINING = "LOCKSTEP_JOINING"
"""Variable of a process that is started to join a run: the number of the change, and the members before it."""


@dataclass(frozen=True)
class WorldChange:
    """A change from one world to the next, at a step boundary."""

    number: int
    """Of the change, counted from 1 in each attempt."""
    before: Members
    after: Members
    is_rescue: bool = False
    """Whether those that leave have died."""

    @property
    def parting(self) -> Members:
        """Return the processes that part from the world before: those that are alive."""
        return self.after if self.is_rescue else self.before

    @property
    def joining(self) -> Members:
        """Return the processes that have to be started for it."""
        return tuple(sorted({*self.after} - {*self.before}))

    @property
    def leaving(self) -> Members:
        """Return the processes that end by it."""
        return tuple(sorted({*self.before} - {*self.after}))

    @property
    def loses_first(self) -> bool:
        """Say whether the first process leaves: rank 0, which writes the record and the checkpoints."""
        return self.before[0] in self.leaving

    @property
    def sources(self) -> dict[int, int]:
        """Return of each rank that joins the rank that it gets its state from: those who stay take turns."""
        staying = [self.after.index(one) for one in self.after if one in self.before]
        joining = [self.after.index(one) for one in self.joining]
        return {rank: staying[turn % len(staying)] for turn, rank in enumerate(joining)}


def resized(members: Members, size: int) -> Members:
    """Return the members of a world of another size: the last leave, or the lowest free numbers join."""
    free = (number for number in range(MOST_PROCESSES) if number not in members)
    joining = [next(free) for _ in range(size - len(members))]
    return _in_order((*members[:size], *joining), members[0])


def to_words(members: Members) -> list[int]:
    """Write members as the bits of a few 64-bit words, and which is the first as another."""
    bits = sum(1 << number for number in members)
    words = [bits >> _WORD_BITS * at & (1 << _WORD_BITS) - 1 for at in range(_BIT_WORDS)]
    return [*words, members[0] if members else 0]


def from_words(words: Sequence[int]) -> Members:
    """Read what ``to_words`` has written."""
    *own, first = words
    bits = sum(word << _WORD_BITS * at for at, word in enumerate(own))
    return _in_order([number for number in range(MOST_PROCESSES) if bits >> number & 1], first)


def _in_order(numbers: Sequence[int], first: int) -> Members:
    return tuple(sorted(numbers, key=lambda number: (number < first, number)))

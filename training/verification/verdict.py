"""Which rank is wrong, by what all of them have come to. Pure functions of digests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

Rows = Sequence[Sequence[int]]
"""Digests of the tensors, of each rank."""


def outvoted(rows: Rows) -> list[int]:
    """Return the ranks that differ from more than half of all; none where no more than half agree."""
    votes = Counter(tuple(row) for row in rows)
    usual, count = votes.most_common(1)[0]
    return [rank for rank, row in enumerate(rows) if tuple(row) != usual] if 2 * count > len(rows) else []


def not_repeated(first: Rows, second: Rows) -> list[int]:
    """Return the ranks that come to something else when the same steps are taken again."""
    return [
        rank for rank, (one, other) in enumerate(zip(first, second, strict=True)) if list(one) != list(other)
    ]


def first_to_differ(firsts: Sequence[int]) -> list[int]:
    """Return the rank that came to something else before any other did; none where several did in the same step.

    What is wrong on one rank goes over to the others with its next gradients.

    Args:
        firsts: of each rank the first step in which it did not repeat its own loss; a large number for none.
    """
    earliest = min(firsts)
    found = [rank for rank, first in enumerate(firsts) if first == earliest]
    return found if len(found) == 1 else []


def differing_tensors(names: Sequence[str], rows: Rows) -> list[str]:
    """Name the tensors that are not equal on all ranks."""
    return [name for name, values in zip(names, zip(*rows, strict=True), strict=True) if len({*values}) > 1]

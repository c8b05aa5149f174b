"""Sums of rows over batches and ranks, as an evaluation makes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..rank import Group
from .sum_tree import PartialSums, nodes_of_owners
from .tree_exchange import tree_sum


class RowSums:
    """The sum of a rank's rows, in the order that they come in, and then over the ranks.

    Args:
        width: of a row.
        group: the ranks.
    """

    def __init__(self, width: int, group: Group) -> None:
        self._group = group
        self._sum = torch.zeros(width, dtype=torch.float64, device=group.device)
        self.samples = 0
        """How many the rows are of."""
        self.left_out = 0
        """How many more there are, that could not be read."""

    def begin_batch(self) -> None:
        """Note that the rows of another batch follow."""

    def add(self, row: torch.Tensor, samples: int) -> None:
        """Add a row, which is of this many samples."""
        self._sum += row
        self.samples += samples

    def everyones(self, marks: Sequence[bool]) -> tuple[torch.Tensor, list[bool]]:
        """Return samples and sum over the ranks, and of each mark whether any rank has it. Collective."""
        everyone = self._group.sum(torch.cat([self.counted(), self._sum.new_tensor(marks)]))
        cut = 1 + len(self._sum)
        return everyone[:cut], [bool(mark) for mark in everyone[cut:].tolist()]

    def counted(self) -> torch.Tensor:
        """Return [samples, *sum] of this rank."""
        return torch.cat([self._sum.new_tensor([self.samples]), self._sum])


class LogicalRowSums(RowSums):
    """Sums of each logical rank's rows, added along one tree: the same bits for any number of ranks.

    Args:
        width: of a row.
        group: the ranks.
        batches: how many each logical rank has that has any, by rank.
    """

    def __init__(self, width: int, group: Group, batches: Sequence[Sequence[int]]) -> None:
        super().__init__(width, group)
        counts = [len(own) for own in batches]
        self._leaves, first = sum(counts), sum(counts[: group.rank])
        self._nodes = nodes_of_owners(counts)
        self._partial = PartialSums(self._leaves, self._nodes[group.rank], torch.Tensor.add_)
        self._ends = [first + leaf for leaf, count in enumerate(batches[group.rank]) for _ in range(count)]
        self._at: int | None = None
        self._batch = 0

    def begin_batch(self) -> None:
        """Note that the rows of another batch follow, perhaps of another logical rank."""
        leaf = self._ends[self._batch]
        self._batch += 1
        if self._at is not None and leaf != self._at:
            self._close_leaf()
        self._at = leaf

    def everyones(self, marks: Sequence[bool]) -> tuple[torch.Tensor, list[bool]]:
        """Return samples and sum over the ranks, and of each mark whether any rank has it. Collective."""
        _, found = RowSums(0, self._group).everyones(marks)
        if self._ends and self._at is None:
            self._at = self._ends[0]
        while self._at is not None:  # of those that were left out nothing is there
            self._close_leaf()
            self._at = self._at + 1 if self._at < self._ends[-1] else None
        parts = self._partial.parts or [self.counted()]
        return tree_sum(parts, self._nodes, self._leaves, self._group), found

    def _close_leaf(self) -> None:
        if self._at is not None:
            self._partial.push(self._at, self.counted())
            self._sum, self.samples = torch.zeros_like(self._sum), 0

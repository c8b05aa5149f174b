"""The gradients of a step's leaves, added along the tree as they come: on this rank, then over all."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..rank import Group
from .gradient_sum import GradientSum, Nodes
from .gradients import Gradients, add_gradients, give, take
from .sum_tree import PartialSums


class GradientTree:
    """Adds gradients; a backward pass adds its own to those of the leaf's sibling where it can, which costs no copy.

    Args:
        parameters: that are trained.
        group: the ranks.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], group: Group) -> None:
        self._parameters = list(parameters)
        self._rank = group.rank
        self._over_ranks = GradientSum(parameters, group) if group.world_size > 1 else None
        self._versions: list[int] | None = None
        self._last: Gradients | None = None

    def detach(self) -> None:
        """Leave the parameters alone from now on, between two steps: another tree takes over."""
        if self._over_ranks is not None:
            self._over_ranks.detach()

    def open(self, leaves: int, nodes: Nodes, last: int | None) -> None:
        """Begin a step.

        Args:
            leaves: of the tree.
            nodes: of each rank.
            last: leaf of this rank; None where it has none.
        """
        self._leaves, self._nodes, self._last_leaf, self._last = leaves, nodes, last, None
        self._sums = PartialSums[Gradients](leaves, nodes[self._rank], add_gradients)
        if self._over_ranks is not None and last is None:
            self._over_ranks.begin(([], []), None, nodes, leaves)

    def begin_leaf(self, leaf: int, *, passes: int) -> None:
        """Prepare for a leaf's backward passes: of several, the gradients are added among themselves first."""
        self._leaf, self._versions = leaf, None
        if passes == 1 and (sibling := self._sums.take_sibling(leaf)) is not None:
            self._versions = give(self._parameters, sibling)

    def begin_last_pass(self) -> None:
        """Prepare for the last backward pass of a leaf."""
        if self._over_ranks is not None and self._leaf == self._last_leaf:
            self._over_ranks.begin(
                self._sums.before_last(self._leaf), self._versions, self._nodes, self._leaves
            )

    def end_leaf(self) -> list[bool]:
        """Take the leaf's gradients; return which parameters it has reached."""
        is_last = self._over_ranks is not None and self._leaf == self._last_leaf
        gradients, reached = take(self._parameters, self._versions, is_sent=is_last)
        if is_last:
            self._last = gradients
        else:
            self._sums.push(self._leaf, gradients)
        return reached

    def close(self) -> None:
        """Send what is not sent yet, after the last leaf of this rank. Collective."""
        if self._over_ranks is not None:
            self._over_ranks.send_rest(self._last)
            self._last = None  # copied into what is sent

    def total(self) -> Gradients:
        """Return the sums over all ranks, after ``close``. Collective."""
        over_ranks = self._over_ranks
        total: Gradients = self._sums.parts[0] if over_ranks is None else [*over_ranks.total()]
        self._sums = PartialSums[Gradients](0, (), add_gradients)
        return total

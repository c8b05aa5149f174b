"""The order in which what logical ranks computed is added: one binary tree, whoever adds which part of it.

Floating-point addition is not associative. Where the tree is fixed, and each of its nodes is one addition of the same
two numbers, the sum is the same to the bit, however many processes share the nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Generic, TypeVar

Node = tuple[int, int]
"""The leaves [first, stop) below a node."""
T = TypeVar("T")


def middle(node: Node) -> int:
    """Return where a node's two children meet: the first has a power of two of leaves, as many as leave some over."""
    first, stop = node
    return first + (1 << (stop - first - 1).bit_length() - 1)


@lru_cache(maxsize=1024)
def owned_nodes(leaves: int, first: int, stop: int) -> tuple[Node, ...]:
    """Return the largest nodes of a tree of ``leaves`` that lie within [first, stop), in their order."""
    if first >= stop:
        return ()

    def within(node: Node) -> tuple[Node, ...]:
        begin, end = node
        if end <= first or begin >= stop:
            return ()
        if first <= begin and end <= stop:
            return (node,)
        between = middle(node)
        return within((begin, between)) + within((between, end))

    return within((0, leaves))


def nodes_of_owners(counts: Sequence[int]) -> list[tuple[Node, ...]]:
    """Return the nodes of each owner, where each has so many leaves in a row."""
    ends = list(accumulate(counts, initial=0))
    return [owned_nodes(ends[-1], first, stop) for first, stop in pairwise(ends)]


def sum_of(leaves: int, parts: Mapping[Node, T], add: Callable[[T, T], T]) -> T:
    """Add the nodes of all owners up to the root of a tree of ``leaves``."""

    def at(node: Node) -> T:
        if node in parts:
            return parts[node]
        between = middle(node)
        return add(at((node[0], between)), at((between, node[1])))

    return at((0, leaves))


class PartialSums(Generic[T]):
    """Sums of the leaves of one owner, which come one by one: never more of them than the tree is deep.

    Args:
        leaves: of the whole tree.
        nodes: of this owner, as ``owned_nodes`` gives them.
        add: of two neighbours; may write into the first and reuse the second.
    """

    def __init__(self, leaves: int, nodes: tuple[Node, ...], add: Callable[[T, T], T]) -> None:
        self._leaves = leaves
        self._open = list(nodes)
        self._add = add
        self._stack: list[tuple[Node, T]] = []

    def push(self, leaf: int, value: T) -> None:
        """Take the next leaf's value, and add what has become complete."""
        self._stack.append(((leaf, leaf + 1), value))
        while len(self._stack) > 1 and self._are_siblings():
            (left, one), (right, other) = self._stack[-2:]
            self._stack[-2:] = [((left[0], right[1]), self._add(one, other))]

    @property
    def parts(self) -> list[T]:
        """Return the sums of the owner's nodes, after its last leaf."""
        if [node for node, _ in self._stack] != self._open:
            raise RuntimeError(f"sums of {[node for node, _ in self._stack]} where {self._open} are owned")
        return [value for _, value in self._stack]

    def _are_siblings(self) -> bool:
        (left, _), (right, _) = self._stack[-2:]
        together = (left[0], right[1])
        return together in _nodes(self._leaves) and middle(together) == right[0]


@lru_cache(maxsize=64)
def _nodes(leaves: int) -> frozenset[Node]:
    def below(node: Node) -> list[Node]:
        first, stop = node
        if stop - first == 1:
            return [node]
        between = middle(node)
        return [node, *below((first, between)), *below((between, stop))]

    return frozenset(below((0, leaves)))

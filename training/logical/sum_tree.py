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
    """Return the nodes of each owner, where each has this many leaves in a row."""
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
        self._begun: int | None = None
        """The first leaf below the node that was taken off for the next leaf to be added to it."""

    def take_sibling(self, leaf: int) -> T | None:
        """Take off the sum that the next leaf is a sibling of; what is pushed then is that leaf added to it."""
        if not self._stack or not self._are_siblings(self._stack[-1][0], (leaf, leaf + 1)):
            return None
        node, value = self._stack.pop()
        self._begun = node[0]
        return value

    def push(self, leaf: int, value: T) -> None:
        """Take the next leaf's value, and add what has become complete."""
        self._stack.append((self._node(leaf), value))
        self._begun = None
        while len(self._stack) > 1 and self._are_siblings(self._stack[-2][0], self._stack[-1][0]):
            (left, one), (right, other) = self._stack[-2:]
            self._stack[-2:] = [((left[0], right[1]), self._add(one, other))]

    def before_last(self, leaf: int) -> tuple[list[T], list[T]]:
        """Return the owner's other sums, and those that its last leaf is to be added to, one after the other."""
        node, at = self._node(leaf), len(self._stack)
        while at and self._are_siblings(self._stack[at - 1][0], node):
            at -= 1
            node = (self._stack[at][0][0], node[1])
        values = [value for _, value in self._stack]
        return values[:at], values[at:][::-1]

    @property
    def parts(self) -> list[T]:
        """Return the sums of the owner's nodes, after its last leaf."""
        if [node for node, _ in self._stack] != self._open:
            raise RuntimeError(f"sums of {[node for node, _ in self._stack]} where {self._open} are owned")
        return [value for _, value in self._stack]

    def _node(self, leaf: int) -> Node:
        return (leaf if self._begun is None else self._begun, leaf + 1)

    def _are_siblings(self, left: Node, right: Node) -> bool:
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

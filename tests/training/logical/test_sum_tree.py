"""Sums along a fixed tree: however the leaves are shared, each addition is of the same two numbers."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from lockstep.training.logical.sum_tree import PartialSums, middle, owned_nodes, sum_of

SEED = 18


def _sum(values: list[float], cuts: list[int]) -> float:
    """The sum, where the leaves between two cuts have one owner."""
    leaves = len(values)
    parts = {}
    for first, stop in pairwise(cuts):
        nodes = owned_nodes(leaves, first, stop)
        partial: PartialSums[float] = PartialSums(leaves, nodes, lambda one, other: one + other)
        for leaf in range(first, stop):
            partial.push(leaf, values[leaf])
            assert len(partial._stack) <= 2 * leaves.bit_length()
        parts |= dict(zip(nodes, partial.parts, strict=True))
    return sum_of(leaves, parts, lambda one, other: one + other)


@pytest.mark.parametrize("leaves", [1, 2, 3, 5, 7, 8, 12, 16, 31, 64, 100])
def test_the_sum_is_the_same_to_the_bit_however_leaves_are_shared(leaves: int) -> None:
    draw = random.Random(SEED + leaves)
    values = [draw.gauss(0, 1) * 10 ** draw.randint(-1, 1) for _ in range(leaves)]
    alone = _sum(values, [0, leaves])
    for _ in range(50):
        inner = sorted(draw.choices(range(leaves + 1), k=draw.randint(0, 6)))
        assert _sum(values, [0, *inner, leaves]) == alone


def test_another_order_gives_another_sum() -> None:
    values = [1e16, 1.0, -1e16, 1.0]
    assert (_sum(values, [0, 4]), _sum(values, [0, 1, 4]), sum(values)) == (0.0, 0.0, 1.0)


def test_an_owner_of_an_even_share_has_one_node_and_others_few() -> None:
    for owners in (1, 2, 4, 8):
        share = 64 // owners
        assert {len(owned_nodes(64, at, at + share)) for at in range(0, 64, share)} == {1}
    shares = [
        owned_nodes(leaves, leaves * rank // owners, leaves * (rank + 1) // owners)
        for leaves in (8, 64, 100)
        for owners in range(1, leaves + 1)
        for rank in range(owners)
    ]
    assert max(map(len, shares)) <= 7  # log2(64) + 1
    assert owned_nodes(5, 3, 3) == ()


def test_a_node_is_cut_at_the_largest_power_of_two() -> None:
    assert [middle((0, n)) for n in (2, 3, 4, 5, 8, 9)] == [1, 2, 2, 4, 4, 8]
    assert middle((4, 7)) == 6


def test_a_sum_that_lacks_a_leaf_is_refused() -> None:
    partial: PartialSums[int] = PartialSums(4, owned_nodes(4, 0, 2), lambda one, other: one + other)
    partial.push(0, 1)
    with pytest.raises(RuntimeError, match="are owned"):
        _ = partial.parts

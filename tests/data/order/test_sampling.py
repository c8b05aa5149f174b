"""Mixtures and weights: exact shares, passes that are permutations, and probabilities as they were asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from math import sqrt

import numpy as np
import pytest

from lockstep.data.order.sample_digest import consumed, planned_digest
from lockstep.data.order.sample_order import (
    EpochBatches,
    EpochOrder,
    FullOrder,
    Indices,
    SampleOrder,
    permute,
)
from lockstep.data.order.sampling import MixedOrder, WeightedOrder, cumulate, permute_each, share_out

TOO_MANY_DEVIATIONS = 5.0


def whole(order: SampleOrder, seed: int = 3, epoch: int = 0) -> Indices:
    return order.indices(np.arange(order.n, dtype=np.int64), seed, epoch)


def assert_as_expected(counts: np.ndarray, expected: np.ndarray) -> None:
    """Compare counts with those of a distribution by chi-squared, in standard deviations of that."""
    freedom = counts.size - 1
    surplus = float(((counts - expected) ** 2 / expected).sum()) - freedom
    assert abs(surplus) < TOO_MANY_DEVIATIONS * sqrt(2 * freedom), (counts, expected)


@pytest.mark.parametrize(
    ("weights", "size", "shares"),
    [
        ((1, 1), 10, (5, 5)),
        ((3, 1), 10, (8, 2)),
        ((1, 1, 1), 10, (4, 3, 3)),
        ((0.7, 0.2, 0.1), 1000, (700, 200, 100)),
        ((5, 0, 5), 7, (4, 0, 3)),
        ((1e-9, 1), 100, (0, 100)),
        ((2.5,), 9, (9,)),
    ],
)
def test_shares_are_in_proportion(weights: tuple[float, ...], size: int, shares: tuple[int, ...]) -> None:
    assert share_out(weights, size) == shares


def test_shares_are_whole_complete_and_within_one_of_exact() -> None:
    draw = np.random.default_rng(0)
    for _ in range(200):
        weights = draw.random(draw.integers(1, 9)).tolist()
        size = int(draw.integers(0, 500))
        shares = share_out(weights, size)
        assert sum(shares) == size
        total = sum(map(Fraction, weights))
        assert all(
            abs(share - Fraction(weight) * size / total) < 1
            for share, weight in zip(shares, weights, strict=True)
        )


def test_each_place_is_permuted_among_its_own() -> None:
    sizes = np.repeat(np.arange(1, 90), np.arange(1, 90))
    places = np.concatenate([np.arange(size) for size in range(1, 90)])
    images = permute_each(places, sizes, sizes.astype(np.uint64) * np.uint64(77))
    for size in range(1, 90):
        assert sorted(images[sizes == size].tolist()) == list(range(size))
    shuffled = np.random.default_rng(1).permutation(sizes.size)
    again = permute_each(places[shuffled], sizes[shuffled], sizes[shuffled].astype(np.uint64) * np.uint64(77))
    assert np.array_equal(again, images[shuffled])


@pytest.mark.parametrize("size", [3, 4])
def test_every_permutation_is_as_likely(size: int) -> None:
    keys = np.arange(24_000, dtype=np.uint64)
    images = [permute_each(np.full(keys.size, at), np.full(keys.size, size), keys) for at in range(size)]
    found = Counter(zip(*(image.tolist() for image in images), strict=True))
    assert len(found) == {3: 6, 4: 24}[size]
    assert_as_expected(np.array(list(found.values())), np.full(len(found), keys.size / len(found)))


MIXED = MixedOrder((5, 100, 17), (30, 30, 40))


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_a_part_has_its_share_of_each_epoch(epoch: int) -> None:
    part = np.searchsorted([5, 105, 122], whole(MIXED, epoch=epoch), side="right")
    assert np.bincount(part).tolist() == [30, 30, 40]


def test_a_part_is_passed_through_before_it_is_begun_again_across_the_ends_of_epochs() -> None:
    for part, (size, start) in enumerate(((5, 0), (100, 5), (17, 105))):
        drawn = np.concatenate([of_part(MIXED, part, epoch) for epoch in range(20)])
        passes = drawn[: drawn.size // size * size].reshape(-1, size)
        assert len(passes) > 5
        for one in passes:
            assert sorted(one.tolist()) == list(range(start, start + size))
        assert len({tuple(one.tolist()) for one in passes}) > 1


def of_part(order: MixedOrder, part: int, epoch: int, seed: int = 3) -> Indices:
    """What a part gives in an epoch, in the order of its draws."""
    positions = np.arange(order.n, dtype=np.int64)
    turns, draws = order.parts(positions, seed, epoch)
    mine = positions[turns == part]
    mine = mine[np.argsort(draws[mine])]
    assert draws[mine].tolist() == list(range(order.shares[part]))
    return order.indices(mine, seed, epoch)


def test_parts_take_turns_as_a_shuffle_has_it() -> None:
    turns = np.concatenate([MIXED.parts(np.arange(100), seed, 0)[0] for seed in range(300)]).reshape(300, 100)
    for part, share in enumerate((30, 30, 40)):
        found = (turns == part).sum(0)
        # What is drawn without replacement within an epoch is independent between seeds, at each position.
        assert_as_expected(found, np.full(100, 3.0 * share))


def test_rows_name_the_samples_of_the_parts() -> None:
    rows = np.random.default_rng(0).permutation(122)
    named = MixedOrder(MIXED.sizes, MIXED.shares, rows)
    assert np.array_equal(whole(named, epoch=2), rows[whole(MIXED, epoch=2)])


def test_one_part_with_the_share_of_its_size_comes_once_in_each_epoch() -> None:
    for epoch in range(3):
        assert sorted(whole(MixedOrder((50,), (50,)), epoch=epoch).tolist()) == list(range(50))


def weighted(weights: list[float], size: int) -> WeightedOrder:
    return WeightedOrder(cumulate(np.array(weights)), size)


@pytest.mark.parametrize("weight", [1.0, 0.1, 3e-200, 7e200])
@pytest.mark.parametrize("n", [1, 10, 999])
def test_equal_weights_give_every_sample_once(weight: float, n: int) -> None:
    assert sorted(whole(weighted([weight] * n, n), epoch=4).tolist()) == list(range(n))


def test_a_sample_comes_nearly_as_often_as_its_weight_says() -> None:
    weights = np.random.default_rng(2).exponential(size=400)
    for epoch in range(5):
        counts = np.bincount(whole(weighted(weights.tolist(), 1000), epoch=epoch), minlength=400)
        assert np.abs(counts - 1000 * weights / weights.sum()).max() < 2


def test_weights_are_the_probabilities_at_every_position() -> None:
    weights = [0.0, 1.0, 2.0, 0.0, 4.5, 0.5, 0.0]
    order = weighted(weights, 6)
    drawn = np.stack([whole(order, seed=seed) for seed in range(1500)])
    expected = 1500 * np.array(weights) / sum(weights)
    seen = expected > 0
    for position in range(6):
        counts = np.bincount(drawn[:, position], minlength=7)
        assert not counts[~seen].any()
        assert_as_expected(counts[seen], expected[seen])


def test_a_sample_that_is_all_the_weight_is_always_drawn_and_one_of_none_never() -> None:
    assert set(whole(weighted([0.0, 0.0, 1e-300, 0.0], 500)).tolist()) == {2}
    assert set(whole(weighted([1e-12, 1.0], 500), epoch=1).tolist()) == {1}


def test_draws_of_one_epoch_are_not_those_of_another() -> None:
    order = weighted(list(range(1, 300)), 299)
    assert not np.array_equal(np.sort(whole(order, epoch=0)), np.sort(whole(order, epoch=1)))


ORDERS: list[SampleOrder] = [
    MIXED,
    MixedOrder((4, 9), (1, 30), np.arange(13)[::-1].copy()),
    weighted([1.0, 5.0, 0.25] * 20, 97),
    MixedOrder((10**12, 10**6), (3 * 10**11, 10**11)),
    FullOrder(75),
]


@pytest.mark.parametrize("order", ORDERS)
def test_an_index_depends_on_its_position_alone(order: SampleOrder) -> None:
    """So any part of an epoch is what it is in the whole: on any number of processes, resumed at any step."""
    last = min(order.n, 10**11)
    positions = np.unique(np.random.default_rng(5).integers(0, last, 60))
    expected = order.indices(positions, 9, 2)
    for at in range(0, positions.size, 7):
        assert order.indices(positions[at : at + 3], 9, 2).tolist() == expected[at : at + 3].tolist()
    assert order.indices(positions[::-1].copy(), 9, 2).tolist() == expected[::-1].tolist()


@pytest.mark.parametrize("order", [order for order in ORDERS if order.n < 1000])
@pytest.mark.parametrize("batch_size", [1, 8, 1000])
def test_what_an_epoch_plans_is_what_its_ranks_consume(order: SampleOrder, batch_size: int) -> None:
    batches, epoch = EpochBatches(order.n, batch_size), EpochOrder(order, 9, 2)
    for world_size in (1, 3, 7):
        total = 0
        for step, begin, end in shares(batches, world_size):
            places = np.arange(begin, end)
            indices = epoch.indices(begin, end)
            total += consumed(2, np.full_like(places, step), places, indices)
        assert total % 2**128 == planned_digest(order, 9, 2, batch_size, (0, order.n))


def shares(batches: EpochBatches, world_size: int) -> Iterator[tuple[int, int, int]]:
    for step in range(batches.steps):
        for rank in range(world_size):
            yield step, *batches.shard(step, rank, world_size)


def test_orders_stay_what_they_are() -> None:
    """A change of these is another order: runs that were begun with the old one could not be resumed."""
    assert MIXED.indices(np.arange(12), 3, 1).tolist() == GOLDEN_MIXED
    assert weighted([1.0, 2.0, 3.0, 4.0] * 5, 40).indices(np.arange(12), 3, 1).tolist() == GOLDEN_WEIGHTED
    assert FullOrder(20).indices(np.arange(20), 3, 1).tolist() == permute(np.arange(20), 20, (3, 1)).tolist()


GOLDEN_MIXED = [81, 114, 115, 66, 121, 4, 120, 69, 3, 91, 49, 118]
GOLDEN_WEIGHTED = [2, 13, 18, 3, 5, 6, 6, 0, 13, 7, 13, 11]


def test_what_cannot_be_exact_is_refused() -> None:
    with pytest.raises(ValueError, match="3 of 0 samples"):
        MixedOrder((0, 5), (3, 5))
    with pytest.raises(ValueError, match="2\\*\\*33"):
        WeightedOrder(np.ones(1), 2**33 + 1)

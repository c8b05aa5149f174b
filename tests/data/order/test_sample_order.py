from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.data.order import sample_order as order
from lockstep.data.order.sample_order import (
    EpochBatches,
    EpochOrder,
    FullOrder,
    Indices,
    micro_batch_sizes,
    permute,
    shard,
)

POWERS = [2**k + d for k in range(1, 17) for d in (-1, 0, 1)]
SIZES = sorted({1, 2, 3, 4, 5, 17, 1000, 60_000, 1_000_003, *POWERS})
SAMPLE = [1, 2, 3, 4, 5, 17, 31, 256, 257, 1000, 4095, 60_000]

property_test = settings(deadline=None, derandomize=True, max_examples=60)


def whole(n: int, seed: int = 0, epoch: int = 0) -> Indices:
    return permute(np.arange(n, dtype=np.int64), n, (seed, epoch))


def assert_bijection(n: int, seed: int, epoch: int) -> None:
    assert np.array_equal(np.sort(whole(n, seed, epoch)), np.arange(n)), (n, seed, epoch)


@pytest.mark.parametrize("n", SAMPLE)
def test_the_order_holds_every_sample_once(n: int) -> None:
    for seed, epoch in ((0, 0), (0, 1), (2**63 - 1, 7)):
        assert_bijection(n, seed, epoch)


@pytest.mark.exhaustive
@pytest.mark.parametrize("n", SIZES)
def test_the_order_holds_every_sample_once_for_every_size_and_key(n: int) -> None:
    for seed in (0, 1, 2**32, 2**63 - 1):
        for epoch in range(5):
            assert_bijection(n, seed, epoch)


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
@property_test
def test_any_size_and_key_give_a_bijection(n: int, seed: int, epoch: int) -> None:
    assert_bijection(n, seed, epoch)


@given(st.integers(1, 40_000), st.integers(0, 2**63), st.data())
@property_test
def test_random_access_equals_the_sequence(n: int, seed: int, data: st.DataObject) -> None:
    positions = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20))
    expected = whole(n, seed, 3)[positions]
    assert np.array_equal(permute(np.array(positions, np.int64), n, (seed, 3)), expected)


@given(st.integers(1, 40_000), st.data())
@property_test
def test_an_epoch_read_anywhere_in_any_pieces_is_the_same_sequence(n: int, data: st.DataObject) -> None:
    expected = whole(n, 5, 2)
    epoch = EpochOrder(n, 5, 2)
    for _ in range(6):
        start = data.draw(st.integers(0, n - 1))
        stop = data.draw(st.integers(start, n))
        assert np.array_equal(epoch.indices(start, stop), expected[start:stop])


def test_an_epoch_read_over_the_edges_of_chunks_is_the_same_sequence() -> None:
    n = 3 * order._CHUNK + 5
    epoch = EpochOrder(n, 1, 0)
    pieces = [epoch.indices(start, min(start + 999, n)) for start in range(0, n, 999)]
    assert np.array_equal(np.concatenate(pieces), whole(n, 1, 0))


# n, seed and epoch, then the first samples of that epoch.
GOLDEN = """
1 0 0:
    0
5 0 0:
    4 2 1 0 3
17 3 1:
    6 8 2 14 13 11 10 16 15 12 0 9 3 7 5 1
1000 0 0:
    327 348 702 299 128 848 662 274 125 946 596 526 430 251 554 423
50000 0 0:
    23405 34069 38299 16226 8079 32764 18355 39908 10706 30734 970 39759 25870 36069 32332 48645
50000 0 1:
    17728 21420 35386 26526 11627 7898 10128 8818 22802 49682 47272 8022 41672 21018 18649 21433
60000 1 0:
    12572 28227 35135 131 6566 16157 25125 33579 29609 43619 38533 39828 18245 7537 39794 46767
60000 9223372036854775807 4:
    28063 52925 31633 56745 54487 41636 54701 40177 56306 56189 53877 29471 13801 51357 44991 19050
1281167 42 89:
    1018468 1149426 1151820 336393 1091646 639258 474446 477429 675804 1254298 1066137 589773 650797 1044664
    136051 771371
1000000000000 7 3:
    698658871024 831101039757 150318187607 3139389313 812934503971 852611597980 552030280506 836395280257
    67288445183 603102267655 638416048491 740968082247 615095153032 300663223391 955207227006 963914565773
"""


def test_the_order_never_changes() -> None:
    for block in GOLDEN.strip().replace("\n    ", " ").split("\n"):
        (n, seed, epoch), expected = ([int(word) for word in part.split()] for part in block.split(":"))
        positions = np.arange(min(16, n), dtype=np.int64)
        assert permute(positions, n, (seed, epoch)).tolist() == expected, block


def test_a_carry_from_seed_into_epoch_is_another_order() -> None:
    for seed in (0, 1, 12345, 2**31):
        orders = [whole(1000, *key) for key in ((seed + 2**32, 0), (seed, 1), (seed + 1, 0), (seed, 0))]
        assert all(np.mean(a == b) < 0.02 for i, a in enumerate(orders) for b in orders[:i])


def test_seed_and_epoch_change_places_is_another_order() -> None:
    assert np.mean(whole(1000, 3, 8) == whole(1000, 8, 3)) < 0.02


def test_huge_seeds_are_told_apart() -> None:
    seeds = [0, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1]
    assert len({tuple(whole(100, seed)) for seed in seeds}) == len(seeds)


def test_more_samples_than_the_order_is_defined_for_are_refused() -> None:
    first = np.array([0], np.int64)
    assert permute(first, 2**48, (0, 0))[0] < 2**48
    with pytest.raises(ValueError, match="2\\*\\*48"):
        permute(first, 2**48 + 1, (0, 0))


@pytest.mark.parametrize("n", [10**12, 10**12 + 39, 2**48 - 1, 2**48])
def test_a_trillion_samples_are_reached_at_random_in_range_and_distinct(n: int) -> None:
    positions = np.unique(np.random.default_rng(0).integers(0, n, 20_000, dtype=np.int64))
    images = permute(positions, n, (1, 2))
    assert images.min() >= 0
    assert images.max() < n
    assert np.unique(images).size == positions.size
    assert np.array_equal(permute(positions[::-1], n, (1, 2)), images[::-1])


def peak_bytes(n: int, world_size: int) -> int:
    """What one of so many ranks allocates for its first batch."""
    tracemalloc.start()
    try:
        batches = EpochBatches(n, 64 * world_size)
        begin, end = batches.shard(0, 0, world_size)
        assert EpochOrder(FullOrder(n), 3, 1).indices(begin, end).size == min(64, n // world_size)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_rank_of_ten_thousand_needs_no_more_memory_for_a_trillion_samples() -> None:
    peak_bytes(10**5, 10_000)  # what is imported and kept at the first call
    few, many = (peak_bytes(n, 10_000) for n in (10**5, 10**12))
    assert many < few + 10_000, (few, many)


# --- who owns which


def owned(batches: EpochBatches, rank: int, world_size: int) -> Iterator[int]:
    for step in range(batches.steps):
        yield from range(*batches.shard(step, rank, world_size))


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 400))
@property_test
def test_shards_are_contiguous_disjoint_complete_and_equal_to_within_one(a: int, b: int, w: int) -> None:
    start, stop = min(a, b), max(a, b)
    parts = [shard(start, stop, rank, w) for rank in range(w)]
    edges = [start] + [end for _, end in parts]
    assert [begin for begin, _ in parts] == edges[:-1]
    assert edges[-1] == stop
    sizes = [end - begin for begin, end in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("world_size", range(1, 10))
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 7, 31, 97, 1000])
def test_the_ranks_together_own_every_position_once(batch_size: int, world_size: int) -> None:
    batches = EpochBatches(97, batch_size)
    ranks = [list(owned(batches, rank, world_size)) for rank in range(world_size)]
    assert sorted(position for rank in ranks for position in rank) == list(range(97))
    for rank, positions in enumerate(ranks):
        assert batches.samples_of_rank(rank, world_size) == len(positions)


@given(st.integers(1, 500), st.integers(1, 64), st.integers(1, 9))
@property_test
def test_the_ranks_together_train_on_the_data_set_in_the_global_order(n: int, g: int, w: int) -> None:
    batches, epoch = EpochBatches(n, g), EpochOrder(n, 11, 4)
    seen = [
        epoch.indices(*batches.shard(step, rank, w)) for step in range(batches.steps) for rank in range(w)
    ]
    assert np.array_equal(np.concatenate(seen), whole(n, 11, 4))


@given(st.integers(0, 5000), st.integers(1, 700), st.integers(1, 40), st.data())
@property_test
def test_rank_samples_is_what_counting_gives(n: int, g: int, w: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, w - 1))
    assert EpochBatches(n, g).samples_of_rank(rank, w) == sum(1 for _ in owned(EpochBatches(n, g), rank, w))


@given(st.integers(1, 5000), st.integers(1, 700))
@property_test
def test_only_the_last_batch_is_short_and_none_is_empty(n: int, g: int) -> None:
    batches = EpochBatches(n, g)
    sizes = [batches.size(step) for step in range(batches.steps)]
    assert sum(sizes) == n
    assert all(size == g for size in sizes[:-1])
    assert 0 < sizes[-1] <= g
    assert batches.span(batches.steps - 1)[1] == n


@given(st.integers(0, 3000), st.one_of(st.none(), st.integers(1, 500)))
@property_test
def test_micro_batches_are_as_few_and_equal_as_the_limit_allows(samples: int, limit: int | None) -> None:
    sizes = micro_batch_sizes(samples, limit)
    assert sum(sizes) == samples
    if not samples:
        assert sizes == []
        return
    assert len(sizes) == (1 if limit is None else -(-samples // limit))
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) > 0
    assert limit is None or max(sizes) <= limit


# --- how well it shuffles: each statistic is 1 for a uniform permutation (the correlation's rms, too), and each
# bound is about five standard errors of 24 uniform permutations away from that, for a data set sorted by class.

N, BATCH, CLASSES = 60_000, 256, 10
BOUNDS = {
    "class counts": (0.97, 1.03),
    "fixed points, mean": (0.05, 2.05),
    "fixed points, variance": (0.05, 2.75),
    "deciles of the start": (0.52, 1.48),
    "successive differences": (0.85, 1.15),
    "lag-1 correlation": (0.3, 1.7),
    "batch-mates again": (0.99, 1.01),
}
Order = Callable[[int, int], Indices]
"""(seed, epoch) to a permutation of N."""


def findings(shuffle: Order, seeds: range) -> dict[str, float]:
    """The statistics that are out of bounds."""
    measured = statistics(shuffle, seeds)
    return {name: x for name, x in measured.items() if not BOUNDS[name][0] < x < BOUNDS[name][1]}


def statistics(shuffle: Order, seeds: range) -> dict[str, float]:
    orders = [shuffle(seed, 0) for seed in seeds]
    fixed = [int((order == np.arange(N)).sum()) for order in orders]
    return {
        "class counts": float(np.mean([class_counts(order) for order in orders])),
        "fixed points, mean": float(np.mean(fixed)),
        "fixed points, variance": float(np.var(fixed, ddof=1)),
        "deciles of the start": float(np.mean([deciles(order) for order in orders])),
        "successive differences": float(np.mean([differences(order) for order in orders])),
        "lag-1 correlation": float(np.sqrt(np.mean([lag_1(order) ** 2 for order in orders]))),
        "batch-mates again": float(
            np.mean([mates(a, shuffle(seed, 1)) for a, seed in zip(orders, seeds, strict=True)])
        ),
    }


def class_counts(order: Indices) -> float:
    """Variance of a batch's class counts over that of a draw without replacement."""
    full = N // BATCH
    classes = order[: full * BATCH].reshape(full, BATCH) * CLASSES // N
    counts = np.stack([(classes == c).sum(1) for c in range(CLASSES)])
    share = 1 / CLASSES
    variance = BATCH * share * (1 - share) * (N - BATCH) / (N - 1)
    return float(((counts - BATCH * share) ** 2).mean() / variance)


def deciles(order: Indices, first: int = 10_000) -> float:
    """Chi-square per degree of freedom of where the first samples come from, drawn without replacement."""
    counts = np.bincount(order[:first] * 10 // N, minlength=10)
    expected = first / 10
    return float(((counts - expected) ** 2 / expected).sum() / 9 / ((N - first) / (N - 1)))


def differences(order: Indices, bins: int = 100) -> float:
    counts = np.bincount((np.diff(order) % N) * bins // N, minlength=bins)
    expected = (N - 1) / bins
    return float(((counts - expected) ** 2 / expected).sum() / (bins - 1))


def lag_1(order: Indices) -> float:
    return float(np.corrcoef(order[:-1], order[1:])[0, 1] * np.sqrt(N))


def mates(one: Indices, other: Indices) -> float:
    """Pairs that share a batch in both epochs, over what independent epochs give."""
    batches = np.empty((2, N), np.int64)
    for row, shuffled in zip(batches, (one, other), strict=True):
        row[shuffled] = np.arange(N) // BATCH
    size = N // BATCH + 1
    table = np.bincount(batches[0] * size + batches[1], minlength=size * size)
    sizes = np.bincount(batches[0])
    expected = pairs(sizes) ** 2 / (N * (N - 1) / 2)
    return pairs(table) / expected


def pairs(counts: Indices) -> float:
    return float((counts * (counts - 1) / 2).sum())


def adjacency(n: int, seeds: range) -> float:
    """Neighbours that stay neighbours, over what a uniform permutation gives: 2 (n - 1) / n."""
    close = sum(int((np.abs(np.diff(whole(n, seed))) == 1).sum()) for seed in seeds)
    return close / len(seeds) / (2 * (n - 1) / n)


def ours(seed: int, epoch: int) -> Indices:
    return whole(N, seed, epoch)


def test_the_order_shuffles_as_well_as_a_uniform_permutation() -> None:
    assert findings(ours, range(24)) == {}


@pytest.mark.exhaustive
def test_the_order_shuffles_as_well_over_120_seeds() -> None:
    for first in range(0, 120, 24):
        assert findings(ours, range(first, first + 24)) == {}
    tight = {"class counts": 0.01, "successive differences": 0.05, "batch-mates again": 0.01}
    measured = statistics(ours, range(120))
    assert all(abs(measured[name] - 1) < off for name, off in tight.items()), measured


def test_a_uniform_permutation_passes_the_same_statistics() -> None:
    generators = np.random.default_rng
    assert findings(lambda seed, epoch: generators((seed, epoch)).permutation(N), range(24)) == {}


def test_two_rounds_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    weaken(monkeypatch, 2)
    caught = {"class counts", "deciles of the start", "successive differences", "lag-1 correlation"}
    assert caught <= set(findings(ours, range(24)))


def weaken(monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    monkeypatch.setattr(order, "ROUNDS", rounds)
    monkeypatch.setattr(order, "_round_keys", order._round_keys.__wrapped__)  # else it remembers eight keys


def affine(seed: int, epoch: int) -> Indices:
    factor, offset = np.random.default_rng((seed, epoch)).integers(N, size=2)
    factor = next(f for f in range(int(factor), 2 * N) if np.gcd(f, N) == 1)
    return (np.arange(N) * factor + offset) % N


def by_blocks(seed: int, epoch: int) -> Indices:
    """Whole blocks of 256 in random order, shuffled in a buffer of eight: what streaming loaders do."""
    rng = np.random.default_rng((seed, epoch))
    blocks = np.array_split(np.arange(N), N // 256)
    mixed = [blocks[block] for block in rng.permutation(len(blocks))]
    groups = [np.concatenate(mixed[start : start + 8]) for start in range(0, len(mixed), 8)]
    return np.concatenate([rng.permutation(group) for group in groups])


@pytest.mark.parametrize("shuffle", [affine, by_blocks])
def test_weak_shuffles_of_other_kinds_are_caught(shuffle: Order) -> None:
    assert {"class counts", "deciles of the start", "batch-mates again"} <= set(findings(shuffle, range(8)))


def test_an_epoch_that_is_forgotten_is_caught() -> None:
    assert "batch-mates again" in findings(lambda seed, _: whole(N, seed, 0), range(4))


@pytest.mark.parametrize(("n", "tolerance"), [(10, 0.09), (50, 0.09)])
def test_small_sets_have_no_excess_of_neighbours(n: int, tolerance: float) -> None:
    assert abs(adjacency(n, range(1500)) - 1) < tolerance


@pytest.mark.exhaustive
@pytest.mark.parametrize("n", [10, 50, 1000])
def test_small_sets_have_no_excess_of_neighbours_over_12000_seeds(n: int) -> None:
    assert abs(adjacency(n, range(12_000)) - 1) < 0.02


@pytest.mark.parametrize("rounds", [2, 3, 4])
def test_too_few_rounds_show_in_small_sets(rounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weaken(monkeypatch, rounds)
    assert adjacency(50, range(1500)) > 1.09

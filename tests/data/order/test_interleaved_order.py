from __future__ import annotations

import numpy as np
import pytest

from lockstep.data.order.interleaved_order import MOST_LANES, InterleavedOrder
from lockstep.data.order.shuffle_quality import measure_shuffle


def lengths_of(case: int) -> np.ndarray:
    drawn = np.random.default_rng(case)
    count = int(drawn.integers(1, 40))
    return drawn.integers(0, 60, count) if case % 3 else np.full(count, 1 + case % 50)


def whole(order: InterleavedOrder, epoch: int = 0) -> np.ndarray:
    return order.indices(np.arange(order.n), 7, epoch)


@pytest.mark.parametrize("case", range(24))
def test_each_sample_comes_once_and_those_of_a_shard_in_their_order(case: int) -> None:
    drawn = np.random.default_rng(case)
    order = InterleavedOrder(lengths_of(case), int(drawn.integers(1, 70)))
    for epoch in (0, 1):
        samples = whole(order, epoch)
        assert np.array_equal(np.sort(samples), np.arange(order.n))
        shards = np.searchsorted(np.cumsum(order.lengths), samples, side="right")
        for shard in range(order.lengths.size):
            assert np.array_equal(samples[shards == shard], np.sort(samples[shards == shard]))
        positions = drawn.integers(0, order.n, 40)
        assert np.array_equal(order.indices(positions, 7, epoch), samples[positions])
        assert np.array_equal(order.indices(positions[:1], 7, epoch), samples[positions[:1]])


def test_within_a_batch_the_samples_of_a_shard_stand_together() -> None:
    order = InterleavedOrder(np.array([30, 40, 20, 11, 1]), 16)
    samples = whole(order)
    shards = np.searchsorted(np.cumsum(order.lengths), samples, side="right")
    for start in range(0, order.n, 16):
        assert (np.diff(shards[start : start + 16]) >= 0).all()


def test_all_shards_end_with_the_epoch() -> None:
    order = InterleavedOrder(np.array([1000, 100, 10]), 37)
    samples = whole(order)
    shards = np.searchsorted(np.cumsum(order.lengths), samples, side="right")
    for shard, length in enumerate(order.lengths):
        for share in (0.25, 0.5, 0.75):
            passed = int((shards[: int(share * order.n) // 37 * 37] == shard).sum())
            assert abs(passed - share * length) <= 1 + 37 * length / order.n


def test_equal_shards_that_divide_the_batch_are_read_by_one_process_each() -> None:
    order = InterleavedOrder(np.full(8, 50), 32)
    shards = whole(order) // 50
    for rank in range(4):
        own = {
            int(shards[start + place])
            for start in range(0, 384, 32)
            for place in range(8 * rank, 8 * rank + 8)
        }
        assert own == {2 * rank, 2 * rank + 1}


def test_more_shards_than_lanes_are_dealt_anew_in_every_epoch() -> None:
    order = InterleavedOrder(np.full(1000, 7), 512)
    first, second = (whole(order, epoch) // 7 for epoch in (0, 1))
    assert len(set(first[:512])) == MOST_LANES
    assert set(first[:512]) != set(second[:512])


def test_samples_by_the_trillion_are_found_at_once() -> None:
    order = InterleavedOrder(np.full(100, 10**10), 256)
    positions = np.arange(7 * 10**11, 7 * 10**11 + 512)
    assert np.unique(order.indices(positions, 0, 0)).size == 512


def test_one_sorted_shard_is_no_shuffle_and_many_are_more_even_than_a_permutation() -> None:
    one, many = (
        measure_shuffle(InterleavedOrder(np.full(count, 100_000 // count), 256), 256) for count in (1, 100)
    )
    assert (one.batch > 200, one.run > 200) == (True, True)
    assert (many.batch < 0.2, many.run < 0.2) == (True, True)


def test_the_order_stays_what_it_was() -> None:
    order = InterleavedOrder(np.array([5, 3, 0, 9]), 6)
    assert whole(order).tolist() == GOLDEN


GOLDEN = [0, 1, 5, 8, 9, 10, 2, 3, 6, 11, 12, 13, 4, 7, 14, 15, 16]

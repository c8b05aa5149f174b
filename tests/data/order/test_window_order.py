import hashlib
from itertools import pairwise

import numpy as np
import pytest

from lockstep.data.order.row_groups import RowGroups
from lockstep.data.order.sample_digest import consumed, planned_digest_share
from lockstep.data.order.sample_order import EpochBatches, EpochOrder, FullOrder
from lockstep.data.order.shuffle_quality import measure_shuffle
from lockstep.data.order.window_order import WindowOrder

SIZES = np.random.default_rng(1).integers(1, 200, 300)
MIXED = RowGroups.at(np.concatenate([[0], np.cumsum(SIZES)]).astype(np.int64))
ORDER = WindowOrder(MIXED, batch_size=96, window=24)


def every(order, seed=0, epoch=0):
    return order.indices(np.arange(order.n, dtype=np.int64), seed, epoch)


def drawn_groups(rng):
    if rng.random() < 0.5:
        return RowGroups.of_size(int(rng.integers(1, 400)), int(rng.integers(1, 20)))
    return RowGroups.at(
        np.concatenate([[0], np.cumsum(rng.integers(1, 20, rng.integers(1, 40)))]).astype(np.int64)
    )


def is_a_permutation(number):
    rng = np.random.default_rng(number)
    order = WindowOrder(drawn_groups(rng), int(rng.integers(1, 50)), int(rng.integers(1, 30)))
    return (np.sort(every(order, number, 3)) == np.arange(order.n)).all()


def test_every_row_is_read_exactly_once_for_any_groups_batch_and_window():
    assert all(is_a_permutation(number) for number in range(250))


@pytest.mark.exhaustive
def test_every_row_is_read_exactly_once_for_any_groups_batch_and_window_all():
    assert all(is_a_permutation(number) for number in range(20_000))


def test_positions_are_found_in_any_order_and_any_cut():
    whole = every(ORDER, 5, 2)
    places = np.random.default_rng(0).permutation(ORDER.n)
    assert (ORDER.indices(places, 5, 2) == whole[places]).all()
    cuts = [0, 1, 97, 5000, 5001, ORDER.n]
    parts = [WindowOrder(MIXED, 96, 24).indices(np.arange(*span), 5, 2) for span in pairwise(cuts)]
    assert (np.concatenate(parts) == whole).all()


def test_seed_and_epoch_change_groups_and_rows_within_them():
    one = every(ORDER, 0, 0)
    for other in (every(ORDER, 1, 0), every(ORDER, 0, 1), every(ORDER, 2**32, 0)):
        assert (one == other).mean() < 0.01
        within, again = ([row for row in found.tolist() if row < SIZES[0]] for found in (one, other))
        assert within != again


def test_regular_groups_are_the_same_whether_their_starts_are_stored_or_not():
    starts = np.minimum(np.arange(35) * 30, 1000).astype(np.int64)
    stored, computed = RowGroups.at(starts), RowGroups.of_size(1000, 30)
    assert stored.regular
    assert (every(WindowOrder(stored, 7, 5)) == every(WindowOrder(computed, 7, 5))).all()
    rows = np.arange(1000)
    assert (stored.group_of(rows) == rows // 30).all()
    assert (stored.sizes(np.array([0, 33])) == [30, 10]).all()


def test_a_shorter_last_group_may_be_read_at_any_time():
    order = WindowOrder(RowGroups.of_size(103, 10), 1, 1)
    firsts = {int(np.flatnonzero(every(order, seed) >= 100)[0]) for seed in range(60)}
    assert firsts == set(range(0, 101, 10))


def test_rows_of_a_group_are_in_any_order():
    order = WindowOrder(RowGroups.of_size(6, 3), 1, 1)
    seen = {tuple(every(order, seed)[:3] % 3) for seed in range(300)}
    assert len(seen) == 6


def test_a_window_of_groups_is_in_flight_and_each_part_of_the_batch_reads_its_own():
    whole = MIXED.group_of(every(ORDER))
    steps = EpochBatches(ORDER.n, 96).steps - 1
    batches = whole[: steps * 96].reshape(steps, 96)
    assert (
        23 < np.mean([np.unique(batch).size for batch in batches]) < 26
    )  # 24, and some on their way to the next
    for world_size in (1, 2, 3, 7):
        cuts = np.arange(world_size + 1) * 96 // world_size
        parts = [batches[:, begin:end] for begin, end in pairwise(cuts)]
        mean = np.mean([np.unique(row).size for part in parts for row in part])
        assert mean < 26 / world_size + 1
        fetched = sum(np.unique(part).size for part in parts)
        shared = (world_size - 1) * (MIXED.count // 24 + 2)  # groups of a lane that is cut
        assert fetched <= MIXED.count + 24 + shared


def test_a_window_larger_than_the_batch_takes_turns():
    order = WindowOrder(RowGroups.of_size(8000, 20), batch_size=8, window=64)
    groups = order.groups.group_of(every(order)).reshape(-1, 64)
    assert order.batches_per_turn == 8
    assert np.mean([np.unique(turn).size for turn in groups]) > 63
    share = groups.reshape(-1, 8)[:, :2]  # one of four ranks, over all steps
    assert np.unique(share).size <= 400 / 4 + 17


def test_digest_of_what_any_number_of_processes_fetched_is_the_planned_one():
    n, batch = 1000, 96
    order = WindowOrder(RowGroups.of_size(n, 30), batch, 5)
    chains = set()
    planned = EpochOrder(order, 3, 1)
    for world_size in (1, 2, 3, 7, 64):
        total, chain = 0, hashlib.sha256()
        for step in range(EpochBatches(n, batch).steps):
            spans = [EpochBatches(n, batch).shard(step, rank, world_size) for rank in range(world_size)]
            for begin, end in spans:
                places = np.arange(begin, end, dtype=np.int64)
                mine = planned.indices(begin, end)
                total += consumed(1, np.full(places.size, step), places, mine)
                chain.update(mine.tobytes())
        chains.add(chain.hexdigest())
        plan = sum(
            planned_digest_share(order, 3, 1, batch, (0, n), rank, world_size) for rank in range(world_size)
        )
        assert total % 2**128 == plan % 2**128
    assert len(chains) == 1


def test_a_million_million_rows_are_a_matter_of_arithmetic():
    order = WindowOrder(RowGroups.of_size(10**12 + 1, 65_536), 4096, 256)
    at = np.array([0, 1, 10**11, 10**12 - 1, 10**12], np.int64)
    found = order.indices(at, 0, 0)
    assert np.unique(found).size == at.size
    assert ((found >= 0) & (found < order.n)).all()
    near = order.indices(np.arange(10**11, 10**11 + 4096), 0, 0)
    assert np.unique(order.groups.group_of(near)).size <= 256


def test_quality_is_one_for_a_full_permutation_and_says_what_a_small_window_costs():
    groups = RowGroups.of_size(100_000, 500)
    full = measure_shuffle(FullOrder(100_000), 256)
    assert full.batch == pytest.approx(1, abs=0.15)
    assert full.run == pytest.approx(1, abs=0.6)
    small, large = (measure_shuffle(WindowOrder(groups, 256, window), 256) for window in (8, 150))
    assert 20 < small.batch < 40
    assert large.batch < 2
    assert small.run > large.run > full.run
    assert measure_shuffle(FullOrder(5), 8).batch == 1


def test_the_order_is_the_documented_one():
    order = WindowOrder(MIXED, 96, 24)
    regular = WindowOrder(RowGroups.of_size(10_000, 64), 32, 40)
    digests = [
        hashlib.sha256(every(one, 7, 1).astype("<i8").tobytes()).hexdigest()[:16] for one in (order, regular)
    ]
    assert digests == ["e586605159cbe1b8", "f0d8836cbf186b43"]

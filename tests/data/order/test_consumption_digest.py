from __future__ import annotations

import hashlib
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lockstep.data.order.sample_digest import (
    chain_order_hash,
    consumed,
    from_limbs,
    planned_digest,
    planned_digest_share,
    to_limbs,
)
from lockstep.data.order.sample_order import EpochBatches, Indices, permute

property_test = settings(deadline=None, derandomize=True, max_examples=60)

N, SEED, EPOCH, G = 101, 3, 2, 7


def fetched(n: int = N, seed: int = SEED, epoch: int = EPOCH) -> Indices:
    return permute(np.arange(n, dtype=np.int64), n, (seed, epoch))


def digest(indices: Indices, positions: Indices | None = None, epoch: int = EPOCH, g: int = G) -> int:
    places = np.arange(len(indices), dtype=np.int64) if positions is None else positions
    return consumed(epoch, places // g, places, indices)


# --- the chain over the order


def test_the_chain_never_changes() -> None:
    link = chain_order_hash(b"", 0, np.array([4, 2, 1], np.int64))
    assert link.hex() == "ed7f59113e0ae81ff1a0b7a6896405d0b8b1ac5aab8b61abe4e0d7f699e6eb4f"
    assert (
        chain_order_hash(link, 1, np.array([0, 3], np.int64)).hex()
        == "0522c21b4111c7f4a3d58cc58888bcfaae8a7167b272f796323d8a3b85b160fc"
    )


def test_a_link_is_sha256_of_the_last_link_the_step_and_the_indices() -> None:
    previous = hashlib.sha256(b"before").digest()
    words = b"".join(number.to_bytes(8, "little") for number in (5, 70, 80, 90))
    expected = hashlib.sha256(previous + words).digest()
    assert chain_order_hash(previous, 5, np.array([70, 80, 90], np.int64)) == expected


def test_the_chain_reads_values_whatever_the_layout_in_memory() -> None:
    indices = np.arange(20, dtype=np.int64)
    assert chain_order_hash(b"", 0, indices[::2]) == chain_order_hash(b"", 0, indices[::2].copy())
    assert chain_order_hash(b"", 0, indices.astype(">i8")) == chain_order_hash(b"", 0, indices)


def test_the_chain_changes_with_everything_in_it() -> None:
    before = chain_order_hash(b"", 0, np.array([9], np.int64))
    indices = np.array([1, 2, 3], np.int64)
    links = [
        chain_order_hash(before, 1, indices),
        chain_order_hash(before, 2, indices),
        chain_order_hash(b"", 1, indices),
        chain_order_hash(before, 1, indices[::-1]),
        chain_order_hash(before, 1, indices[:2]),
        chain_order_hash(before, 1, indices + 1),
    ]
    assert len(set(links)) == len(links)


# --- the sum over what was fetched


def test_the_digest_never_changes() -> None:
    assert f"{digest(fetched()):032x}" == "8d891eb16ba249e29aea45493bd2678d"
    assert consumed(0, *(np.empty(0, np.int64) for _ in range(3))) == 0


@given(st.lists(st.integers(0, N), max_size=8), st.randoms(use_true_random=False))
@property_test
def test_who_fetched_what_in_which_pieces_and_order_does_not_matter(cuts: list[int], random: Random) -> None:
    indices = fetched()
    pieces = list(pairwise(sorted([0, *cuts, N])))
    random.shuffle(pieces)
    places = [np.arange(a, b, dtype=np.int64) for a, b in pieces]
    assert sum(digest(indices[part], part) for part in places) % 2**128 == digest(indices)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 9, 50])
def test_the_ranks_digests_sum_to_the_plans(world_size: int) -> None:
    batches, indices = EpochBatches(N, G), fetched()
    limbs = np.zeros(4, np.int64)
    for rank in range(world_size):
        for step in range(batches.steps):
            place = np.arange(*batches.shard(step, rank, world_size), dtype=np.int64)
            limbs += to_limbs(consumed(EPOCH, np.full_like(place, step), place, indices[place]))
    assert from_limbs(limbs.tolist()) == planned_digest(N, SEED, EPOCH, G, (0, N))


@given(
    st.integers(1, 3000),
    st.integers(1, 100),
    st.integers(0, 2**63 - 1),
    st.integers(0, 10**6),
    st.data(),
)
@property_test
def test_what_was_planned_is_what_is_consumed(
    n: int, g: int, seed: int, epoch: int, data: st.DataObject
) -> None:
    indices = fetched(n, seed, epoch)
    assert planned_digest(n, seed, epoch, g, (0, n)) == digest(indices, epoch=epoch, g=g)
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    place = np.arange(start, stop, dtype=np.int64)
    assert planned_digest(n, seed, epoch, g, (start, stop)) == digest(indices[start:stop], place, epoch, g)


def test_a_plan_longer_than_one_chunk_is_what_is_consumed() -> None:
    n = 2 * 65_536 + 3
    assert planned_digest(n, 0, 0, 32, (0, n)) == digest(fetched(n, 0, 0), epoch=0, g=32)


@given(
    st.integers(1, 2000), st.integers(1, 70), st.integers(1, 9), st.integers(0, 2000), st.integers(0, 2000)
)
@property_test
def test_the_shares_of_a_plan_sum_to_it(n: int, g: int, w: int, a: int, b: int) -> None:
    span = min(a, b, n), min(max(a, b), n)
    shares = [planned_digest_share(n, SEED, EPOCH, g, span, rank, w) for rank in range(w)]
    assert sum(shares) % 2**128 == planned_digest(n, SEED, EPOCH, g, span)


# --- what it must not overlook


@given(st.integers(0, N - 1), st.integers(0, N - 1))
@property_test
def test_two_samples_that_change_places_are_noticed(one: int, other: int) -> None:
    assume(one != other)
    indices = fetched()
    indices[[one, other]] = indices[[other, one]]
    assert digest(indices) != digest(fetched())


@given(st.integers(0, N - 1), st.integers(0, N - 1))
@property_test
def test_a_sample_in_the_place_of_another_is_noticed(one: int, other: int) -> None:
    assume(one != other)
    indices = fetched()
    indices[one] = indices[other]
    assert digest(indices) != digest(fetched())


@pytest.mark.parametrize("place", range(0, N, 5))
def test_a_sample_that_is_left_out_or_fetched_twice_is_noticed(place: int) -> None:
    kept = np.delete(np.arange(N, dtype=np.int64), place)
    assert digest(fetched()[kept], kept) != digest(fetched())
    twice = np.append(np.arange(N, dtype=np.int64), place)
    assert digest(fetched()[twice], twice) != digest(fetched())


def test_one_dropped_and_another_fetched_twice_is_noticed() -> None:
    places = np.arange(N, dtype=np.int64)
    places[10] = 11
    assert digest(fetched()[places], places) != digest(fetched())


def test_an_epoch_a_step_or_a_batch_size_of_another_run_is_noticed() -> None:
    indices, places = fetched(), np.arange(N, dtype=np.int64)
    others = [
        digest(indices),
        digest(indices, epoch=EPOCH + 1),
        consumed(EPOCH, places // G + 1, places, indices),
        consumed(EPOCH, places // G, places + 1, indices),
        digest(indices, g=G + 1),
        digest(fetched(epoch=EPOCH + 1)),
        digest(fetched(seed=SEED + 1)),
    ]
    assert len(set(others)) == len(others)


def test_the_same_shift_of_two_parts_does_not_cancel() -> None:
    """(epoch, step, position, index) are mixed in turn, so a change in one cannot undo one in another."""
    values = {
        consumed(e, *(np.array([v], np.int64) for v in (s, p, i)))
        for e in range(8)
        for s in range(8)
        for p in range(8)
        for i in range(8)
    }
    assert len(values) == 8**4


# --- limbs


@given(st.integers(0, 2**128 - 1))
@property_test
def test_limbs_hold_the_whole_value(value: int) -> None:
    assert from_limbs(to_limbs(value)) == value
    assert all(0 <= limb < 2**32 for limb in to_limbs(value))


@given(st.lists(st.integers(0, 2**128 - 1), min_size=1, max_size=64))
@property_test
def test_limbs_summed_in_64_bits_are_the_sum(values: list[int]) -> None:
    summed = np.array([to_limbs(value) for value in values], np.int64).sum(0)
    assert from_limbs(summed.tolist()) == sum(values) % 2**128


def test_limbs_of_a_thousand_ranks_at_their_largest_do_not_overflow() -> None:
    summed = np.array([to_limbs(2**128 - 1)] * 1024, np.int64).sum(0)
    assert from_limbs(summed.tolist()) == 1024 * (2**128 - 1) % 2**128


def test_sums_of_large_words_are_exact() -> None:
    n = 200_000
    zeros = np.zeros(n, np.int64)
    one = consumed(0, zeros[:1], zeros[:1], zeros[:1])
    assert consumed(0, zeros, zeros, zeros) == n * one % 2**128

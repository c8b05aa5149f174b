from __future__ import annotations

import numpy as np

from lockstep.data.order import counter_rng


def test_it_is_splitmix64() -> None:
    """The reference generator from state 0 gives these first numbers (Vigna, splitmix64.c)."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        states = np.arange(1, 4, dtype=np.uint64) * golden
    assert [hex(value) for value in counter_rng._mix(states)] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


def test_golden_stream() -> None:
    values = counter_rng.bits((1, 2, 3), np.arange(3, dtype=np.uint64))
    assert values.tolist() == [8946099157182655218, 3802744409056513856, 7721893001307416925]


def test_any_order_and_any_chunk_give_the_same() -> None:
    counters = np.arange(1000, dtype=np.uint64)
    whole = counter_rng.bits((5,), counters)
    order = np.random.default_rng(0).permutation(1000)
    assert (counter_rng.bits((5,), counters[order]) == whole[order]).all()


def test_keys_of_other_values_order_and_length_differ() -> None:
    counters = np.arange(64, dtype=np.uint64)
    keys = [(), (0,), (0, 0), (1, 2), (2, 1), (2**63,), (2**64 - 1,), (3, 0, 1), (3, 1, 0)]
    streams = {counter_rng.bits(key, counters).tobytes() for key in keys}
    assert len(streams) == len(keys)


def test_uniform_lies_in_the_unit_interval_and_fills_it() -> None:
    values = counter_rng.random_uniform((9,), np.arange(100_000, dtype=np.uint64))
    assert values.dtype == np.float32
    assert 0 <= values.min() < 1e-3
    assert 1 - 1e-3 < values.max() < 1
    counts = np.histogram(values, bins=100, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 160  # chi-squared with 99 degrees of freedom: 1e-4

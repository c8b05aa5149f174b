"""Random numbers that are a pure function of a key and a counter: there is no state to carry or replay."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def bits(key: tuple[int, ...], counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Compute the ``counters``-th outputs of the SplitMix64 generator that ``key`` seeds, in any order.

    SplitMix64 adds a constant to its state and mixes the sum, so its n-th output needs none before it
    (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014).

    Args:
        key: integers of any size; another key is another stream.
        counters: uint64 of any shape.

    Returns:
        uint64 of the shape of ``counters``.
    """
    with np.errstate(over="ignore"):
        return _mix(counters * np.uint64(_GOLDEN) + np.uint64(_initial_state(key)))


def random_uniform(key: tuple[int, ...], counters: NDArray[np.uint64]) -> NDArray[np.float32]:
    """Draw multiples of 2^-24 in [0, 1): float32 holds every one of them exactly."""
    return (bits(key, counters) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


@lru_cache(maxsize=64)
def _initial_state(key: tuple[int, ...]) -> int:
    state = _GOLDEN
    for word in key:
        state = int(_mix(np.array([(state ^ (word & _MASK)) & _MASK], np.uint64))[0])
        state = (state + _GOLDEN) & _MASK
    return state


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))

"""Randomness keyed by what it is for: a draw is a function of its key, never of what was drawn before."""

from __future__ import annotations

import random

import numpy as np
import torch

_MASK = 2**64 - 1


def mix(*values: int) -> int:
    """A 63-bit hash of integers: splitmix64's finaliser (Steele, Lea and Flood, 2014), chained."""
    state = 0x9E3779B97F4A7C15
    for value in values:
        state = (state ^ value) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 30) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state >> 1


def seed_all(key: int) -> None:
    """Seed the global generators of this process: torch on the CPU, Python and NumPy's legacy one."""
    torch.default_generator.manual_seed(key)
    random.seed(key)
    np.random.seed(key % 2**32)  # noqa: NPY002 - user code may draw from it

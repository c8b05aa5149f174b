"""Randomness keyed by what it is for: a draw is a function of its key, never of what was drawn before."""

from __future__ import annotations

import random

import numpy as np
import torch

_MASK = 2**64 - 1
INITIAL_STATE = 0x9E3779B97F4A7C15


def mix(*values: int) -> int:
    """Hash integers, each below 2**64, to 63 bits: xor, multiply and shift, with splitmix64's multipliers."""
    state = INITIAL_STATE
    for value in values:
        state = extend_key(state, value)
    return state >> 1


def extend_key(state: int, value: int) -> int:
    """Apply ``mix`` to one more value: what is known early need not be hashed again."""
    state = (state ^ value) * 0xBF58476D1CE4E5B9 & _MASK
    state = (state ^ state >> 30) * 0x94D049BB133111EB & _MASK
    return state ^ state >> 31


def seed_global_generators(key: int) -> None:
    """Seed the global generators of this process: torch on the CPU, Python and NumPy's legacy one."""
    torch.default_generator.manual_seed(key)
    random.seed(key)
    np.random.seed(key % 2**32)  # noqa: NPY002 - user code may draw from it

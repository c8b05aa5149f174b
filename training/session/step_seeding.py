"""Model randomness keyed by (seed, step, rank): nothing is carried from step to step, so nothing is restored."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from ...data.order import INITIAL_STATE, extend_key, mix, seed_global_generators

_NUMPY: Any = np.random  # its stubs leave two functions out


class StepSeeder:
    """Seeds torch's generators before each step; 3 µs on a CPU, where ``torch.manual_seed`` takes 117 µs.

    Args:
        seed: the run's seed.
        rank: dropout differs between ranks.
        device: whose generator is seeded, besides the CPU's.
    """

    def __init__(self, seed: int, rank: int, device: torch.device) -> None:
        self._state = extend_key(extend_key(INITIAL_STATE, seed), rank)
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            self._generators.append(torch.cuda.default_generators[device.index])

    def reseed(self, step: int) -> None:
        """Make the draws of ``step`` a function of (seed, step, rank)."""
        key = extend_key(self._state, step) >> 1
        for generator in self._generators:
            generator.manual_seed(key)


class HookDraws(AbstractContextManager["HookDraws"]):
    """The generators for what a hook draws after a step; after the block they are as they were.

    NumPy's is another one inside: to save and to set its state takes 0.5 ms.

    Args:
        device: whose generator is used besides the CPU's.
    """

    def __init__(self, device: torch.device) -> None:
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            self._generators.append(torch.cuda.default_generators[device.index])
        self._states: list[torch.Tensor] = []
        self._of_python: Any = None
        self._of_numpy: Any = None
        self._own = np.random.MT19937()

    def __enter__(self) -> Self:
        self._states = [generator.get_state() for generator in self._generators]
        self._of_python, self._of_numpy = random.getstate(), _NUMPY.get_bit_generator()
        _NUMPY.set_bit_generator(self._own)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for generator, state in zip(self._generators, self._states, strict=True):
            generator.set_state(state)
        random.setstate(self._of_python)
        _NUMPY.set_bit_generator(self._of_numpy)

    def key(self, key: int) -> None:
        """Make what is drawn next a function of ``key``."""
        for generator in self._generators:
            generator.manual_seed(key >> 1)
        random.seed(key)
        np.random.seed(key % 2**32)  # noqa: NPY002 - what user code may draw from


def seed_initialisation(seed: int) -> None:
    """Seed every rank alike: initial weights, and whatever user code draws while it is built."""
    seed_global_generators(mix(seed))
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(mix(seed))

"""Random draws in evaluation: keyed by (seed, first sample of the batch), noticed, and without effect on training."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ...data.order import mix

_KEY = 2**63 + 1  # no rank and no epoch: the draws of evaluation are no others' again
_IDLE = 2**63 + 2  # in place of a first sample, where it is only asked whether anything is drawn


@dataclass(frozen=True)
class _Generator:
    """A generator that a model may draw from."""

    name: str
    seed: Callable[[int], Any]
    mark: Callable[[], Any]
    """Something that a draw changes; cheap, and may itself be a draw."""
    state: Callable[[], Any]
    restore: Callable[[Any], Any]


class EvaluationDraws(AbstractContextManager["EvaluationDraws"]):
    """The generators of this process and of a model; after the block they are as they were.

    Args:
        model: may hold generators of its own.
        seed: the run's seed.
        device: whose generator is used besides the processor's.
    """

    def __init__(self, model: nn.Module, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._generators = [*_global_generators(device), *_own_generators(model)]
        self._states: list[Any] = []
        self._marks: list[Any] = []

    def __enter__(self) -> Self:
        self._states = [generator.state() for generator in self._generators]
        self.watch()
        self._marks = [generator.mark() for generator in self._generators]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for generator, state in zip(self._generators, self._states, strict=True):
            generator.restore(state)

    def key(self, first: int) -> None:
        """Make what is drawn next a function of (seed, ``first``)."""
        key = mix(self._seed, _KEY, first)
        for generator in self._generators:
            generator.seed(key)

    def watch(self) -> None:
        """Wait for draws: ``drawn`` tells of those after this."""
        self.key(_IDLE)

    def drawn(self) -> list[str]:
        """Name the generators that something was drawn from since ``watch``."""
        return [
            generator.name
            for generator, mark in zip(self._generators, self._marks, strict=True)
            if generator.mark() != mark
        ]


def _global_generators(device: torch.device) -> list[_Generator]:
    found = [_of_torch("torch's generator", torch.default_generator)]
    if device.type == "cuda":
        found.append(_of_torch("torch's generator of the GPU", torch.cuda.default_generators[device.index]))
    return [*found, _of_python("Python's random", random), _of_numpy("NumPy's generator", np.random)]


def _own_generators(model: nn.Module) -> list[_Generator]:
    """Find the generators that modules have as attributes, each once."""
    found: dict[int, _Generator] = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if (generator := _generator_of(f"{path}.{name}".lstrip("."), value)) is not None:
                found.setdefault(id(value), generator)
    return list(found.values())


def _generator_of(name: str, value: Any) -> _Generator | None:
    if isinstance(value, torch.Generator):
        return _of_torch(name, value)
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return _of_python(name, value)
    if isinstance(value, np.random.RandomState):
        return _of_numpy(name, value)
    return _of_new_numpy(name, value) if isinstance(value, np.random.Generator) else None


def _of_torch(name: str, generator: torch.Generator) -> _Generator:
    return _Generator(
        name,
        generator.manual_seed,
        lambda: generator.get_state().numpy().tobytes(),
        generator.get_state,
        generator.set_state,
    )


def _of_python(name: str, generator: Any) -> _Generator:
    return _Generator(name, generator.seed, generator.random, generator.getstate, generator.setstate)


def _of_numpy(name: str, generator: Any) -> _Generator:
    return _Generator(
        name,
        lambda key: generator.seed(key % 2**32),
        generator.random_sample,
        generator.get_state,
        generator.set_state,
    )


def _of_new_numpy(name: str, generator: np.random.Generator) -> _Generator:
    bits: Any = generator.bit_generator

    def restore(state: Any) -> None:
        bits.state = state

    def seed(key: int) -> None:
        bits.state = type(bits)(key).state

    return _Generator(name, seed, generator.random, lambda: bits.state, restore)

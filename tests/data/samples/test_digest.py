"""What stands for a user's samples, and samples that are others when they are read again, in another order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from lockstep.data.samples.digest import split_digest

LENGTH = 40


class Samples:
    """Samples that a function of this object and their number makes; it keeps what it wants to."""

    def __init__(self, make: Callable[[Samples, int], Any]) -> None:
        self.make = make
        self.read, self.last = 0, 0
        self.left = list(range(200))
        self.kept: dict[int, Any] = {}
        self.own = np.random.default_rng(0)
        self.generator = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return LENGTH

    def __getitem__(self, row: int) -> Any:
        return torch.tensor(float(row)), self.make(self, row)


def _counts(samples: Samples, _: int) -> int:
    samples.read += 1
    return samples.read


def _follows(samples: Samples, row: int) -> int:
    before, samples.last = samples.last, row
    return row - before


def _caches(samples: Samples, row: int) -> Any:
    if row not in samples.kept:
        samples.kept[row] = torch.rand(3)
    return samples.kept[row]


def _another(samples: Samples, row: int) -> Any:
    """As sets of pairs do: a second sample is drawn."""
    return float(samples[(row + random.randint(1, 9)) % LENGTH][0]) if row % 2 else float(row)


CHANGING: dict[str, Callable[[Samples, int], Any]] = {
    "a counter": _counts,
    "the one that was read before": _follows,
    "a list that it takes from": lambda samples, _: samples.left.pop(),
    "a generator of NumPy's of its own": lambda samples, _: samples.own.random(),
    "a generator of torch's of its own": lambda samples, _: torch.rand(2, generator=samples.generator),
    "a new generator without a seed": lambda *_: np.random.default_rng().random(2),
    "the time": lambda *_: time.time_ns(),
    "from 20 samples on, the second half": lambda samples, row: _counts(samples, row) * (row > LENGTH // 2),
}
SAME: dict[str, Callable[[Samples, int], Any]] = {
    "nothing": lambda _, row: row,
    "torch's generator": lambda *_: torch.rand(3),
    "NumPy's generator": lambda *_: np.random.rand(3),  # noqa: NPY002 - what users draw from
    "Python's generator": lambda *_: random.random(),
    "another sample": _another,
    "a cache of what was drawn": _caches,
    "a generator with the sample's seed": lambda _, row: np.random.default_rng(row).random(2),
}


@pytest.mark.parametrize("kind", CHANGING)
def test_samples_that_depend_on_what_was_read_are_seen(kind: str) -> None:
    found = split_digest("own", Samples(CHANGING[kind]))
    assert found.changing is not None
    assert found.contents == [LENGTH, None]  # nothing that another process could be compared with


@pytest.mark.parametrize("kind", SAME)
def test_samples_whose_draws_are_keyed_are_the_same(kind: str) -> None:
    one, other = (split_digest("own", Samples(SAME[kind])) for _ in range(2))
    assert one.changing is None
    assert one == other

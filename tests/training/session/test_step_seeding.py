from __future__ import annotations

import random

import numpy as np
import torch
from torch.nn import functional

from lockstep.data.order.seeding import mix
from lockstep.training.session.step_seeding import StepSeeder, seed_initialisation

CPU = torch.device("cpu")
GOLDEN = {  # a change here changes what every earlier run would have drawn
    (0,): 5661684732319412867,
    (1,): 1549864530993440505,
    (0, 0): 8447691138515689582,
    (3, 1, 4): 7846152310792116948,
    (2**63 - 1, 7): 6297720352141728764,
}


def _dropped(seed: int, step: int, rank: int) -> list[float]:
    StepSeeder(seed, rank, CPU).reseed(step)
    return functional.dropout(torch.ones(64), 0.5).tolist()


def test_the_hash_is_what_it_was() -> None:
    assert {key: mix(*key) for key in GOLDEN} == GOLDEN


def test_the_hash_tells_keys_apart_by_place_and_length() -> None:
    keys = [(a, b) for a in range(64) for b in range(64)]
    keys += [(a,) for a in range(64)]  # type: ignore[misc]
    hashes = {mix(*key) for key in keys}
    assert len(hashes) == len(keys)
    assert all(0 <= value < 2**63 for value in hashes)


def test_dropout_is_a_function_of_seed_step_and_rank() -> None:
    once = _dropped(1, 2, 3)
    torch.rand(17)
    assert _dropped(1, 2, 3) == once
    others = [_dropped(0, 2, 3), _dropped(1, 3, 3), _dropped(1, 2, 2), _dropped(2, 1, 3), _dropped(1, 3, 2)]
    assert once not in others


def test_half_of_the_units_are_dropped_on_average_over_steps() -> None:
    kept = sum(value > 0 for step in range(200) for value in _dropped(0, step, 0))
    assert (
        abs(kept - 6400) < 4 * 40 * 2
    )  # eight standard deviations of a fair coin's 12,800 throws, halved and doubled


def test_the_start_seeds_every_generator_that_user_code_may_draw_from() -> None:
    def draw() -> tuple[float, float, float]:
        return float(torch.rand(())), random.random(), float(np.random.rand())  # noqa: NPY002

    seed_initialisation(5)
    first = draw()
    seed_initialisation(6)
    other = draw()
    seed_initialisation(5)
    assert draw() == first
    assert all(a != b for a, b in zip(first, other, strict=True))

"""Digests of states: one flipped bit changes that tensor's and no other, wherever it is."""

from __future__ import annotations

import random

import pytest
import torch

from lockstep.training.verification.digests import StateDigest
from lockstep.training.verification.verdict import differing_tensors, first_to_differ, not_repeated, outvoted

SEED = 18
CPU = torch.device("cpu")
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _state() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(SEED)
    flat = torch.randn(5000, generator=draw)
    return {
        "weight": torch.randn(70, 33, generator=draw),
        "whole rows": torch.randn(32, 64, generator=draw),
        "bias": torch.randn(33, generator=draw),
        "transposed": torch.randn(40, 60, generator=draw).t(),
        "at an odd place": flat[1:4000],
        "half": torch.randn(3001, generator=draw).bfloat16(),
        "double": torch.randn(700, generator=draw, dtype=torch.float64),
        "count": torch.tensor(7.0),
        "long": torch.arange(1000),
        "mask": torch.rand(30, generator=draw) > 0.5,
        "complex": torch.randn(600, generator=draw, dtype=torch.complex64),
        "empty": torch.zeros(0),
    }


def _flipped(tensor: torch.Tensor, draw: random.Random) -> torch.Tensor:
    """A copy with one bit that differs."""
    copy = tensor.clone()
    flat = torch.view_as_real(copy).reshape(-1) if copy.is_complex() else copy.reshape(-1)
    size = flat.element_size()
    numbers = flat.clone().view(BITS[size])
    at, bit = draw.randrange(len(numbers)), 0 if tensor.dtype == torch.bool else draw.randrange(8 * size)
    one = torch.tensor(1 << bit if bit < 8 * size - 1 else -(1 << bit), dtype=numbers.dtype)
    numbers[at] ^= one
    back = numbers.view(flat.dtype)
    return (torch.view_as_complex(back.view(-1, 2)) if copy.is_complex() else back).view(tensor.shape)


def _check_flips(number: int, ranks: int) -> None:
    """A bit of one rank's state is flipped: the tensor is named, and the rank."""
    draw = random.Random(f"{SEED} {number}")
    digest, state = StateDigest(CPU), _state()
    name = draw.choice([name for name, tensor in state.items() if tensor.numel()])
    names, usual = digest(state)
    _, other = digest(state | {name: _flipped(state[name], draw)})
    wrong = draw.randrange(ranks)
    rows = [(other if rank == wrong else usual).tolist() for rank in range(ranks)]
    assert differing_tensors(names, rows) == [name]
    assert outvoted(rows) == ([wrong] if ranks > 2 else [])
    assert not_repeated(rows, [usual.tolist()] * ranks) == [wrong]


@pytest.mark.parametrize("number", range(20))
def test_a_flipped_bit_is_found_and_its_rank_is_named(number: int) -> None:
    _check_flips(number, 2 + number % 4)


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", range(200))
def test_each_of_200_flipped_bits_is_found_and_its_rank_is_named(number: int) -> None:
    _check_flips(number, 2 + number % 7)


def test_digests_change_nothing_and_are_equal_for_equal_states() -> None:
    digest, state = StateDigest(CPU), _state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    names, one = digest(state)
    assert sorted(names) == sorted(state)
    again = digest({name: tensor.clone() for name, tensor in state.items()})
    assert torch.equal(one, again[1])
    assert all(torch.equal(before[name], tensor) for name, tensor in state.items())


def test_values_that_change_places_are_seen() -> None:
    digest, state = StateDigest(CPU), _state()
    _, usual = digest(state)
    for name in ("weight", "bias", "long"):
        names, other = digest(state | {name: state[name].flip(0)})
        assert differing_tensors(names, [usual.tolist(), other.tolist()]) == [name]


@pytest.mark.parametrize(
    ("firsts", "wrong"), [([9, 3], [1]), ([3, 3], []), ([2**62, 2**62], []), ([0, 2**62], [0])]
)
def test_the_first_to_differ_is_named_where_there_is_one(firsts: list[int], wrong: list[int]) -> None:
    assert first_to_differ(firsts) == wrong


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([[1], [1], [2]], [2]),
        ([[1], [2], [1], [1], [3]], [1, 4]),
        ([[1], [2]], []),
        ([[1], [1], [2], [2]], []),
        ([[1], [2], [3]], []),
        ([[1, 5], [1, 5], [1, 6]], [2]),
    ],
)
def test_a_rank_is_outvoted_by_more_than_half(rows: list[list[int]], wrong: list[int]) -> None:
    assert outvoted(rows) == wrong

from __future__ import annotations

import pytest
import torch
from torch import nn

from lockstep.training.components.finite_weights import learned_tensors, non_finite


class Masked(nn.Module):
    """What a model may hold on purpose: masks of -inf and NaN, as buffers and as frozen parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(2, 2), nn.BatchNorm1d(2)
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
        self.register_buffer("unseen", torch.full((2,), torch.nan))
        self.register_buffer("which", torch.tensor([True, False]))
        self.frozen = nn.Parameter(torch.tensor([torch.inf]), requires_grad=False)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["layer.weight", "norm.running_var"])
def test_what_is_learned_has_to_stay_finite_and_nothing_else(name: str, value: float) -> None:
    model = Masked()
    assert non_finite(learned_tensors(model)) == []
    with torch.no_grad():
        model.state_dict()[name].view(-1)[-1] = value
    assert non_finite(learned_tensors(model)) == [name]


def test_tensors_of_every_kind_are_looked_at() -> None:
    tensors = {
        "empty": torch.empty(0),
        "whole": torch.tensor([2**40]),
        "complex": torch.tensor([1 + 1j, complex(0, torch.nan)]),
        "half": torch.tensor([torch.inf], dtype=torch.float16),
    }
    assert non_finite(tensors) == ["complex", "half"]
    assert non_finite({"lazy": nn.LazyLinear(2).weight}) == []

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lockstep.data.common.errors import UsageError
from lockstep.training.components.recomputation import recompute


class Block(nn.Module):
    """A norm that learns and a dropout that draws, between two layers, and a count of its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Dropout(0.4), nn.Linear(5, 5))
        self.calls = 0

    def forward(self, x: torch.Tensor, *, shift: float = 0.0) -> torch.Tensor:
        self.calls += 1
        out: torch.Tensor = self.layers(x) + shift
        return out.tanh()


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 5), Block(), Block(), nn.Linear(5, 2)).double()


def _trained(model: nn.Module) -> tuple[Any, ...]:
    """Losses, gradients, buffers and the next draw after three steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(3):
        torch.manual_seed(step)
        optimizer.zero_grad()
        x = torch.linspace(-1, 2, 35, dtype=torch.float64).reshape(7, 5)
        loss = model(x).square().sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return (*losses, *model.state_dict().values(), torch.rand(1))


def test_the_numbers_are_the_same_to_the_bit_with_dropout_and_batch_norm() -> None:
    plain, model = _model(), _model()
    (note,) = recompute(model, "^[12]$")
    assert note == "model.checkpointing: computed again in the backward pass are 1, 2"
    assert all(map(torch.equal, _trained(model), _trained(plain)))
    assert [model[1].calls, plain[1].calls] == [6, 3], "it is computed twice a step"
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_nothing_is_computed_twice_without_gradients_or_in_evaluation() -> None:
    model = _model()
    recompute(model, "1")
    x = torch.ones(7, 5, dtype=torch.float64)
    model.eval()(x).sum().backward()
    with torch.no_grad():
        model.train()(x)
    assert model[1].calls == 2


def test_of_modules_in_each_other_the_outermost_is_taken() -> None:
    model = nn.Sequential(Block(), nn.ModuleDict({"block": Block()})["block"])
    (note,) = recompute(model, r"^0$|layers\.[13]")
    assert note.endswith("are 0, 1.layers.1, 1.layers.3")


def test_a_pattern_that_finds_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no module has such a name") as caught:
        recompute(_model(), "encoder")
    assert "the model's parts are 0, 1, 2, 3" in caught.value.hint

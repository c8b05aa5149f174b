"""What an optimizer keeps between two steps comes back to the bit, whatever it is made of."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from lockstep.data.common.errors import UsageError
from lockstep.training.config.optimizers import OPTIMIZERS, OptimizerConfig
from lockstep.training.optim.optimizer_building import build_optimizer
from lockstep.training.optim.optimizer_state import OptimizerState

Model = nn.Module


def _model() -> Model:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)).double()


def _step(model: Model, optimizer: torch.optim.Optimizer, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    optimizer.step()


def _state(model: Model, optimizer: torch.optim.Optimizer) -> OptimizerState:
    return OptimizerState(optimizer, {id(parameter): name for name, parameter in model.named_parameters()})


def _resumed(make: Any, first: int = 3) -> tuple[Model, Model, dict[str, Any]]:
    """The model of steps in one piece, that of a run which was resumed in between, and the plain part of the state."""
    one, other = _model(), _model()
    whole = make(one)
    state = _state(one, whole)
    for number in range(first):
        _step(one, whole, number)
    tensors, plain = state.save()
    tensors = {key: tensor.clone() for key, tensor in tensors.items()}
    other.load_state_dict(one.state_dict())
    cut = make(other)
    _state(other, cut).load(tensors, json.loads(json.dumps(plain, allow_nan=False)))
    for number in range(first, first + 3):
        _step(one, whole, number)
        _step(other, cut, number)
    return one, other, plain


VARIANTS: list[dict[str, Any]] = [
    *({"use": name} for name in OPTIMIZERS),
    {"use": "sgd", "momentum": 0.9},
    {"use": "adam", "amsgrad": True},
    {"use": "rmsprop", "momentum": 0.9, "centered": True},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_each_of_torchs_optimizers_goes_on_to_the_bit(settings: dict[str, Any]) -> None:
    config = OptimizerConfig.model_validate({**settings, "weight_decay": 0.01})
    one, other, plain = _resumed(lambda model: build_optimizer(config, model))
    assert all(map(torch.equal, one.parameters(), other.parameters()))
    assert plain == {}, "as it always was: nothing but tensors"


class Odd(torch.optim.Optimizer):
    """Keeps its state in every way that there is."""

    def __init__(self, parameters: Any, lr: float = 0.1, kind: Any = None) -> None:
        super().__init__(parameters, {"lr": lr, "seen": 0, "scale": torch.ones(())})
        self.kind, self.drift = kind, 1.0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        shared = self.state["all"]  # type: ignore[index]
        shared["steps"] = shared.get("steps", 0) + 1
        self.drift *= 1.25
        for group in self.param_groups:
            group["seen"] += 1
            group["scale"].mul_(1.5)
            for parameter in group["params"]:
                state = self.state[parameter]
                state.setdefault("history", []).append(
                    (parameter.grad.float().clone(), {"at": group["seen"]})
                )
                state["best"] = max(state.get("best", -float("inf")), 0.1 * shared["steps"])
                state["worst"], state["nothing"], state[7] = float("nan"), None, True
                mean = sum(gradient for gradient, _ in state["history"][-2:])
                rate = group["lr"] * float(group["scale"]) * state["best"] * self.drift / group["seen"]
                parameter.data.sub_(mean * rate)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "drift": self.drift}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.drift = state_dict.pop("drift")
        super().load_state_dict(state_dict)


def test_numbers_lists_groups_and_what_a_class_adds_itself_go_on_to_the_bit() -> None:
    one, other, plain = _resumed(lambda model: Odd(model.parameters()))
    assert all(map(torch.equal, one.parameters(), other.parameters()))
    assert plain.keys() == {"parameters", "shared", "groups", "more"}
    assert plain["groups"]["0"].keys() == {"seen", "scale"}, "what has not changed is the config's"


def test_a_state_is_found_again_under_the_names_that_a_compiler_has_changed() -> None:
    one, other = _model(), _model()
    whole, cut = Odd(one.parameters()), Odd(other.parameters())
    state = OptimizerState(whole, {id(p): f"_orig_mod.{name}" for name, p in one.named_parameters()})
    _step(one, whole, 0)
    tensors, plain = state.save()
    there = {key.removeprefix("_orig_mod."): tensor for key, tensor in tensors.items()}
    _state(other, cut).load(there, plain, lambda name: name.removeprefix("_orig_mod."))
    history = next(iter(cut.state.values()))["history"]
    assert torch.equal(history[0][0], next(iter(one.parameters())).grad.float())
    assert history[0][0].dtype == torch.float32, "it is not rounded to its parameter's type"


class Stateful:
    """Nothing that a file could hold."""


@pytest.mark.parametrize(
    "value", [Stateful(), torch.ones(2).to_sparse(), [torch.ones(1, dtype=torch.complex128)]]
)
def test_what_no_checkpoint_can_hold_is_refused_by_name(value: Any) -> None:
    model = _model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = _state(model, optimizer)
    optimizer.state[next(model.parameters())]["odd"] = value
    with pytest.raises(UsageError, match=r"in odd of 0\.weight, which a checkpoint cannot hold"):
        state.save()


def test_the_state_of_another_model_is_refused() -> None:
    model = _model()
    with pytest.raises(UsageError, match="of another model: there was trained there"):
        _state(model, torch.optim.SGD(model.parameters())).load({"there/momentum_buffer": torch.ones(1)}, {})

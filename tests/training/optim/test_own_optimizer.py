"""Optimizers of a user's own: how they are called, and what is refused before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.training.config.optimizers import OptimizerConfig
from lockstep.training.optim.notes import describe_groups, optimizer_notes
from lockstep.training.optim.optimizer_building import build_optimizer

CODE = '''
import torch

class Sign(torch.optim.Optimizer):
    """A plain number for state; nothing of it in tensors."""
    def __init__(self, params, lr=0.25, floor=0.0):
        super().__init__(params, {"lr": lr, "floor": floor})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    state["n"] = state.get("n", 0) + 1
                    p.sub_(p.grad.sign() * (group["lr"] / state["n"]))

class Forgetful(Sign):
    count = 0
    def step(self, closure=None):
        self.count += 1
        for group in self.param_groups:
            for p in group["params"]:
                p.data.sub_(p.grad / self.count)

class Noisy(Sign):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.add_(torch.randn_like(p))

class Raising(Sign):
    def step(self, closure=None):
        assert closure is not None, "two passes"

class Closing(Sign):
    def step(self, closure):
        closure()

class Keeping(Sign):
    def step(self, closure=None):
        self.state[self.param_groups[0]["params"][0]]["when"] = object()

def optimizer(named_parameters, lr=0.5, decay=0.0):
    named = dict(named_parameters)
    first = {"params": [p for n, p in named.items() if n.endswith("weight")], "weight_decay": decay}
    return torch.optim.SGD([first, {"params": [named["1.bias"]]}], lr=lr, momentum=0.9)

def nothing(named_parameters):
    return None

def foreign(named_parameters):
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(3))])
'''


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "exp.py").write_text(CODE)
    return tmp_path


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def _build(base: Path, name: str, model: nn.Module | None = None, **settings: Any) -> torch.optim.Optimizer:
    config = OptimizerConfig.model_validate({"use": name if "." in name else f"./exp.py:{name}", **settings})
    return build_optimizer(config, model or _model(), base)


def test_a_class_is_made_with_groups_layers_and_arguments(base: Path) -> None:
    model = _model()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    groups = [{"match": "bias$", "lr": 0.5, "args": {"floor": 0.2}}]
    built = _build(base, "Sign", model, groups=groups, layer_decay=0.5, args={"floor": 0.1})
    assert type(built).__name__ == "Sign"
    assert [(group["lr"], group["floor"]) for group in built.param_groups] == [
        (0.125, 0.1),
        (0.25, 0.1),
        (0.25, 0.2),
        (0.5, 0.2),
    ]
    assert all(map(torch.equal, before, model.parameters())), "it was tried on copies"
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not built.state


def test_any_class_of_torch_is_one_too(base: Path) -> None:
    built = _build(base, "torch.optim:Adamax", lr=0.3, args={"eps": 0.1})
    assert (type(built), built.defaults["lr"], built.defaults["eps"]) == (torch.optim.Adamax, 0.3, 0.1)


def test_a_function_gets_the_names_and_makes_its_own_groups(base: Path) -> None:
    model = _model()
    config = OptimizerConfig.model_validate({"use": "./exp.py:optimizer", "lr": 0.3, "args": {"decay": 0.2}})
    built = build_optimizer(config, model, base)
    assert [(len(g["params"]), g["lr"], g["weight_decay"]) for g in built.param_groups] == [
        (2, 0.3, 0.2),
        (1, 0.3, 0),
    ]
    assert optimizer_notes(config, built, model) == [
        "./exp.py:optimizer leaves out 0.bias: these stay as they are"
    ]
    assert describe_groups(config, built, model) == ["0.weight, 1.weight", "1.bias"]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("Sign", {"args": {"flor": 1}}, "./exp.py:Sign with flor: got an unexpected keyword argument 'flor'"),
        ("Sign", {"weight_decay": 0.1}, "unexpected keyword argument 'weight_decay'"),
        (
            "optimizer",
            {"groups": [{"match": "bias", "lr": 1}]},
            "makes its own groups, so groups can only freeze",
        ),
        ("optimizer", {"layer_decay": 0.5}, "makes its own groups"),
        ("Forgetful", {}, "keeps something between its steps that a checkpoint does not hold"),
        ("Noisy", {}, "draws random numbers, of which each rank would draw others"),
        ("Closing", {}, "needs a closure: it evaluates the loss several times in a step"),
        ("torch.optim:LBFGS", {}, "torch.optim:LBFGS needs a closure"),
        ("Keeping", {}, "keeps a object in when of 0.weight, which a checkpoint cannot hold"),
    ],
)
def test_what_cannot_be_trained_with_is_refused_by_name(
    base: Path, name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        _build(base, name, **settings)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "Raising",
            r"Raising raised in a step that was tried on copies \(.*exp.py:\d+.*\): AssertionError: two passes",
        ),
        ("nothing", "returned NoneType, not a torch.optim.Optimizer"),
        ("foreign", r"optimizes a parameter of shape \(3,\) that is none of those it was given"),
    ],
)
def test_what_is_no_optimizer_or_raises_is_the_training_codes_mistake(
    base: Path, name: str, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        _build(base, name)

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
from torch import nn

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.training.config import optimizers
from lockstep.training.config.optimizers import OPTIMIZERS, Optimizer, OptimizerConfig
from lockstep.training.optim.optimizer_building import build_optimizer
from lockstep.training.optim.parameter_groups import freeze_parameters


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def _config(**values: Any) -> OptimizerConfig:
    return OptimizerConfig.model_validate(values)


def _matrices() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False))


@pytest.mark.parametrize("use", OPTIMIZERS)
def test_each_name_is_torchs_own_optimizer_with_its_own_defaults(use: str) -> None:
    kind = getattr(torch.optim, OPTIMIZERS[use].torch_class.partition(":")[2])
    ours = build_optimizer(_config(use=use), _matrices())
    theirs = kind(_matrices().parameters(), weight_decay=0.0)
    assert type(ours) is kind
    for key in theirs.defaults.keys() - {"fused"}:
        assert ours.defaults[key] == theirs.defaults[key], key
    assert ours.param_groups[0]["lr"] == inspect.signature(kind).parameters["lr"].default


OWN_KEYS = {
    "sgd": {"momentum": 0.5, "dampening": 0.1},
    "adam": {"betas": (0.8, 0.9), "eps": 1e-4, "amsgrad": True},
    "adamw": {"betas": (0.8, 0.9), "eps": 1e-4, "amsgrad": True},
    "rmsprop": {"momentum": 0.5, "eps": 1e-4, "alpha": 0.9, "centered": True},
    "adagrad": {"eps": 1e-4, "lr_decay": 0.1, "initial_accumulator_value": 0.1},
    "adadelta": {"eps": 1e-4, "rho": 0.8},
    "nadam": {"betas": (0.8, 0.9), "eps": 1e-4, "momentum_decay": 0.1, "decoupled_weight_decay": True},
    "radam": {"betas": (0.8, 0.9), "eps": 1e-4, "decoupled_weight_decay": True},
    "muon": {"momentum": 0.5, "nesterov": False, "eps": 1e-4, "ns_steps": 3, "adjust_lr_fn": "original"},
}


@pytest.mark.parametrize("use", OPTIMIZERS)
def test_each_key_reaches_torchs_class(use: str) -> None:
    assert {*OWN_KEYS[use], "nesterov"} >= {*OPTIMIZERS[use].keys}
    built = build_optimizer(_config(use=use, lr=0.3, weight_decay=0.2, **OWN_KEYS[use]), _matrices())
    expected = {"lr": 0.3, "weight_decay": 0.2, **OWN_KEYS[use]}
    assert {key: built.param_groups[0][key] for key in expected} == expected


def test_muon_refuses_what_is_no_matrix() -> None:
    with pytest.raises(
        UsageError, match=r"takes matrices only, and there are 0.bias \(1-d\), 1.bias \(1-d\)"
    ):
        build_optimizer(_config(use="muon"), _model())


def test_settings_reach_the_optimizer() -> None:
    sgd = build_optimizer(_config(use="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.5), _model())
    assert [sgd.defaults[key] for key in ("momentum", "nesterov", "weight_decay")] == [0.9, True, 0.5]
    adam = build_optimizer(_config(use="adam", betas=[0.8, 0.9], eps=1e-3), _model())
    assert (adam.defaults["betas"], adam.defaults["eps"]) == ((0.8, 0.9), 1e-3)


def test_a_new_optimizer_is_one_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = Optimizer("torch.optim:RMSprop", keys=("momentum", "eps"))
    monkeypatch.setitem(optimizers.OPTIMIZERS, "new", declared)
    config = OptimizerConfig.model_validate({"use": "new", "lr": 0.1, "momentum": 0.5})
    built = build_optimizer(config, _model())
    assert type(built) is torch.optim.RMSprop
    assert (built.defaults["momentum"], built.defaults["eps"]) == (0.5, 1e-8)
    assert {"nesterov", "betas", "alpha", "args"} <= {*optimizers.unsupported_keys("new")}
    assert not {"momentum", "eps"} & {*optimizers.unsupported_keys("new")}


def test_the_first_group_that_matches_wins_and_the_rest_keeps_the_settings() -> None:
    model = _model()
    groups = [{"match": "bias$", "weight_decay": 0.0}, {"match": "^1", "lr": 0.5}]
    optimizer = build_optimizer(_config(use="sgd", lr=0.1, weight_decay=0.01, groups=groups), model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [
        ([names[id(p)] for p in group["params"]], group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
    ]
    assert found == [
        (["0.weight"], 0.1, 0.01),
        (["0.bias", "1.bias"], 0.1, 0.0),
        (["1.weight"], 0.5, 0.01),
    ]


def test_groups_that_cover_everything_leave_no_empty_rest() -> None:
    optimizer = build_optimizer(_config(groups=[{"match": ".", "lr": 0.5}]), _model())
    assert [len(group["params"]) for group in optimizer.param_groups] == [4]


def test_groups_choose_by_dimensions_too_and_set_every_key() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LayerNorm(4))
    groups = [
        {"max_ndim": 1, "match": "^1", "betas": [0.5, 0.6]},
        {"max_ndim": 1, "weight_decay": 0.0},
        {"min_ndim": 4, "lr": 0.5},
    ]
    built = build_optimizer(_config(lr=0.1, weight_decay=0.3, groups=groups), model).param_groups
    assert [len(group["params"]) for group in built] == [2, 1, 1]
    assert [group["betas"] for group in built] == [(0.5, 0.6), (0.9, 0.999), (0.9, 0.999)]
    assert [group["weight_decay"] for group in built] == [0.3, 0.0, 0.3]
    assert [group["lr"] for group in built] == [0.1, 0.1, 0.5]


def test_a_group_that_sets_a_momentum_begins_late_momenta_like_any_other() -> None:
    settings = {"use": "sgd", "lr": 0.1, "groups": [{"match": "^1", "momentum": 0.9}]}
    model = _model()
    optimizer = build_optimizer(_config(**settings), model)
    for used in ("1.weight", "1.bias"):
        for name, parameter in model.named_parameters():
            parameter.grad = torch.ones_like(parameter) if name in (used, "1.weight") else None
        optimizer.step()
    assert [sorted(optimizer.state[parameter]) for parameter in model.parameters()] == [[], []] + [
        ["momentum_buffer"]
    ] * 2


def test_what_is_frozen_is_in_no_group_and_gets_no_gradient() -> None:
    model = _model()
    config = _config(groups=[{"match": "^0", "frozen": True}, {"match": "bias$", "lr": 0.5}])
    for _ in range(2):  # as `launch check` does
        freeze_parameters(config, model)
        optimizer = build_optimizer(config, model)
        assert [[p.shape for p in g["params"]] for g in optimizer.param_groups] == [[(2, 4)], [(2,)]]
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, False, True, True]
    with pytest.raises(TrainingError, match="freezes every parameter"):
        freeze_parameters(_config(groups=[{"match": "", "frozen": True}]), _model())


@pytest.mark.parametrize("groups", [[{"match": "norm"}], [{"match": "."}, {"match": "bias"}]])
def test_a_group_that_gets_no_parameter_is_refused_with_the_names_there_are(groups: list[Any]) -> None:
    with pytest.raises(UsageError, match="matches no parameter") as caught:
        build_optimizer(_config(groups=groups), _model())
    assert "0.weight" in caught.value.hint


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_parameter_that_is_reached_late_begins_its_momentum_as_any_other(*, nesterov: bool) -> None:
    settings = {"use": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.1}
    model = nn.ModuleList([nn.Linear(2, 1), nn.Linear(2, 1)]).double()
    plain = copy.deepcopy(model)
    arguments = {key: value for key, value in settings.items() if key != "use"}
    pairs = [
        (model, build_optimizer(OptimizerConfig.model_validate(settings), model)),
        (plain, torch.optim.SGD(plain.parameters(), foreach=False, fused=False, **arguments)),
    ]
    for used in ([0], [0], [1], [0, 1], [1]):
        for layers, optimizer in pairs:
            optimizer.zero_grad(set_to_none=True)
            sum((layers[at](torch.ones(3, 2, dtype=torch.float64)) ** 2).sum() for at in used).backward()
            optimizer.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)

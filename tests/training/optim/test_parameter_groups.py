from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from lockstep.data.common.errors import UsageError
from lockstep.training.config import optimizers
from lockstep.training.config.optimizers import Optimizer, OptimizerConfig
from lockstep.training.optim.parameter_groups import build_optimizer


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def _config(**values: Any) -> OptimizerConfig:
    return OptimizerConfig.model_validate(values)


@pytest.mark.parametrize(
    ("use", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
)
def test_each_name_is_torchs_own_optimizer_with_its_own_defaults(use: str, kind: Any) -> None:
    ours = build_optimizer(_config(use=use, lr=0.1, weight_decay=0.0), _model())
    theirs = kind(_model().parameters(), lr=0.1, weight_decay=0.0)
    assert type(ours) is kind
    for key in ("momentum", "betas", "eps", "nesterov", "amsgrad", "maximize"):
        assert ours.defaults.get(key) == theirs.defaults.get(key)


def test_settings_reach_the_optimizer() -> None:
    sgd = build_optimizer(_config(use="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.5), _model())
    assert [sgd.defaults[key] for key in ("momentum", "nesterov", "weight_decay")] == [0.9, True, 0.5]
    adam = build_optimizer(_config(use="adam", betas=[0.8, 0.9], eps=1e-3), _model())
    assert (adam.defaults["betas"], adam.defaults["eps"]) == ((0.8, 0.9), 1e-3)


def test_a_new_optimizer_is_one_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = Optimizer("torch.optim:RMSprop", keys=("momentum", "eps"))
    monkeypatch.setitem(optimizers.OPTIMIZERS, "rmsprop", declared)
    config = OptimizerConfig.model_construct(use="rmsprop", lr=0.1, momentum=0.5)
    built = build_optimizer(config, _model())
    assert type(built) is torch.optim.RMSprop
    assert (built.defaults["momentum"], built.defaults["eps"]) == (0.5, 1e-8)
    assert optimizers.unsupported_keys("rmsprop") == ("nesterov", "betas")
    assert optimizers.unsupported_keys("sgd") == ("betas", "eps")


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

"""Parameters that are trained in a part of the run: which ones is a function of the step alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import nn

from lockstep.training.config.optimizers import OptimizerConfig
from lockstep.training.optim.freezing import Freezing
from lockstep.training.optim.optimizer_building import build_optimizer
from lockstep.training.optim.parameter_groups import divide_parameters, trained_spans

SPANS: list[tuple[dict[str, Any], set[int]]] = [
    ({"until": 3}, {0, 1, 2}),
    ({"frozen": True, "until": "1 epoch"}, {0, 1, 2, 3}),
    ({"after": "50 %"}, {5, 6, 7, 8, 9}),
    ({"until": 2, "after": 7}, {0, 1, 7, 8, 9}),
    ({"until": "100 %"}, set(range(10))),
]


def _frozen_steps(settings: dict[str, Any], order: list[int]) -> set[int]:
    model = nn.Linear(2, 2)
    config = OptimizerConfig.model_validate({"groups": [{"match": "weight", **settings}]})
    freezing = Freezing(trained_spans(divide_parameters(config, model), 4, 10))
    found = set()
    for step in order:
        freezing.set(step)
        assert freezing.frozen == ([] if model.weight.requires_grad else [model.weight])
        assert model.bias.requires_grad
        found |= set() if model.weight.requires_grad else {step}
    return found


@pytest.mark.parametrize(("settings", "frozen"), SPANS)
def test_what_is_frozen_depends_on_the_step_alone(settings: dict[str, Any], frozen: set[int]) -> None:
    steps = list(range(10))
    assert _frozen_steps(settings, steps) == frozen
    random.Random(1).shuffle(steps)
    assert _frozen_steps(settings, steps) == frozen


def test_a_frozen_parameter_is_neither_decayed_nor_moved_and_begins_like_a_new_one() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    settings = {"use": "adamw", "lr": 0.1, "weight_decay": 0.5, "groups": [{"match": "weight", "until": 2}]}
    config = OptimizerConfig.model_validate(settings)
    optimizer = build_optimizer(config, model)
    freezing = Freezing(trained_spans(divide_parameters(config, model), 4, 10))
    before, bias = model.weight.detach().clone(), model.bias.detach().clone()
    for step in range(3):
        freezing.set(step)
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        assert torch.equal(model.weight, before) == (step < 2)
        assert not torch.equal(model.bias, bias)
    assert float(optimizer.state[model.weight]["step"]) == 1
    assert float(optimizer.state[model.bias]["step"]) == 3

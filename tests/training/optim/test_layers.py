"""The layers of a model, for learning rates that fall with the distance to the output."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lockstep.data.common.errors import UsageError
from lockstep.training.config.optimizers import OptimizerConfig
from lockstep.training.optim.layers import find_layers
from lockstep.training.optim.notes import describe_groups, optimizer_notes
from lockstep.training.optim.optimizer_building import build_optimizer


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.mlp = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(2))
        self.embed = nn.Embedding(3, 2)
        self.encoder = nn.Module()
        self.encoder.blocks = nn.ModuleList(Block() for _ in range(2))
        self.encoder.norm = nn.LayerNorm(2)
        self.heads = nn.Sequential(nn.Linear(2, 2))


class ConvNorm(nn.Sequential):
    """A part that only looks like a list."""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        self.layer1 = nn.Sequential(Block(), Block())
        self.layer2 = nn.Sequential(
            nn.Sequential(Block()), nn.Flatten(), ConvNorm(nn.Linear(2, 2), nn.LayerNorm(2))
        )
        self.fc = nn.Linear(2, 2)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.drop, self.two = nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("model", "names", "places"),
    [
        (
            Transformer(),
            ["position", "encoder.blocks.0", "encoder.blocks.1", "heads.0"],
            {"position": 0, "embed.weight": 0, "encoder.blocks.1.mlp.2.bias": 2, "encoder.norm.bias": 3},
        ),
        (
            Net(),
            ["conv1", "layer1.0", "layer1.1", "layer2.0.0", "layer2.2", "fc"],
            {"norm1.weight": 0, "layer2.2.0.weight": 4, "layer2.2.1.bias": 4, "fc.weight": 5},
        ),
        (
            nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)),
            ["0", "2"],
            {"0.bias": 0, "2.weight": 1},
        ),
        (Plain(), ["one", "two"], {"one.weight": 0, "two.bias": 1}),
    ],
)
def test_the_members_of_the_outermost_lists_are_the_layers(
    model: nn.Module, names: list[str], places: dict[str, int]
) -> None:
    found = find_layers(model)
    assert found.names == names
    assert {name: found.index[name] for name in places} == places
    assert found.index.keys() == dict(model.named_parameters()).keys()


def test_patterns_say_the_layers_exactly() -> None:
    patterns = ["^(position|embed)", r"blocks\.0", "^encoder", "."]
    found = find_layers(Transformer(), patterns)
    assert found.names == patterns
    assert [found.index[name] for name in ("embed.weight", "encoder.blocks.0.attention.bias")] == [0, 1]
    assert [found.index[name] for name in ("encoder.blocks.1.attention.bias", "encoder.norm.bias")] == [2, 2]
    assert found.scale("embed.weight", 0.5) == 0.125
    assert found.scale("heads.0.bias", 0.5) == 1


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["^one"], "no pattern fits the parameter two.weight"),
        ([".", "^one"], "fits no parameter that an earlier"),
    ],
)
def test_patterns_that_do_not_fit_are_refused(patterns: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_layers(Plain(), patterns)


def test_each_layer_of_each_group_has_its_learning_rate() -> None:
    model = Plain()
    settings: dict[str, Any] = {
        "groups": [{"max_ndim": 1, "lr": 0.4, "weight_decay": 0.0}],
        "layer_decay": 0.5,
    }
    config = OptimizerConfig.model_validate({"use": "adamw", "lr": 0.1, "weight_decay": 0.3, **settings})
    optimizer = build_optimizer(config, model)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [
        (0.05, 0.3),
        (0.1, 0.3),
        (0.2, 0.0),
        (0.4, 0.0),
    ]
    assert describe_groups(config, optimizer, model) == [
        "all others, layer one",
        "all others, layer two",
        "max_ndim 1, layer one",
        "max_ndim 1, layer two",
    ]
    (note,) = optimizer_notes(config, optimizer, model)
    assert note.startswith(
        "layer_decay 0.5: 2 layers by the order in which the model lists its parts, from one (lr x 0.5)"
    )

from __future__ import annotations

import pytest
from torch import nn

from lockstep.data.common.errors import TrainingError
from lockstep.training.loop.unreached import UnreachedParameters

LAYERS = [nn.Linear(1, 1, bias=False) for _ in range(8)]
NAMES = {id(layer.weight): f"layer{number}" for number, layer in enumerate(LAYERS)}


def _count(unused: str, *steps: list[int]) -> UnreachedParameters:
    counted = UnreachedParameters(unused, NAMES)
    for step, layers in enumerate(steps):
        counted.count(step, [LAYERS[at].weight for at in layers])
    return counted


def test_an_epoch_tells_each_parameter_once() -> None:
    counted = _count("auto", [], [3], [3, 1])
    assert counted.close_epoch() == {"steps": 3, "missed": {"layer3": 2, "layer1": 1}}
    counted.count(3, [LAYERS[3].weight])
    assert counted.close_epoch() is None
    counted.count(4, [LAYERS[3].weight, LAYERS[2].weight])
    assert counted.close_epoch() == {"steps": 1, "missed": {"layer2": 1}}


def test_nothing_is_said_where_it_is_allowed_or_does_not_happen() -> None:
    assert _count("allow", [1], [2]).close_epoch() is None
    assert _count("auto", [], []).close_epoch() is None


def test_a_step_is_refused_by_name() -> None:
    with pytest.raises(TrainingError) as caught:
        _count("error", [], [0, 1, 2, 3, 4, 5, 6])
    assert caught.value.message == (
        "train.unused=error: in step 2 the loss does not reach layer0, layer1, layer2, layer3, layer4 and 2 more"
    )
    _count("error", [], [])

"""Which parts of a model FSDP gathers at a time, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from lockstep.data.common.errors import TrainingError
from lockstep.training.config.run_config import RunConfig
from lockstep.training.parallel.sharding import find_blocks, refuse_unsharded


def test_blocks_are_the_outermost_items_of_lists_that_share_no_parameter() -> None:
    tied = nn.Linear(2, 2, bias=False)
    tied.weight = (embedding := nn.Embedding(2, 2)).weight
    inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    model = nn.Module()
    model.embedding, model.layers = embedding, nn.ModuleList([inner, nn.ReLU(), tied, nn.Linear(2, 2)])
    assert find_blocks(model) == [inner, model.layers[3]]
    assert find_blocks(nn.Linear(2, 2)) == []


@pytest.mark.parametrize(
    ("train", "unused", "words"),
    [
        ({}, ["head.bias"], "does not reach head.bias"),
        ({"compile": True}, [], "no train.compile"),
    ],
)
def test_what_cannot_be_as_exact_is_refused(train: dict[str, Any], unused: list[str], words: str) -> None:
    config = RunConfig.model_validate({"train": {"strategy": "fsdp", **train}})
    with pytest.raises(TrainingError, match=words):
        refuse_unsharded(config, unused)
    refuse_unsharded(RunConfig(), [])

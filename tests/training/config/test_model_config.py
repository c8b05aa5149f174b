from __future__ import annotations

from typing import Any

import pytest

from lockstep.training.config.model_config import model_lines
from lockstep.training.config.run_config import RunConfig

LINES: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"model": {"use": "cnn", "weights": "first"}}, ["model cnn: weights from first"]),
    (
        {"model": {"weights": "a.pt", "weights_match": "partial", "head": "fc"}, "train": {"compile": True}},
        ["model mlp: what fits from a.pt, head fc, compiled"],
    ),
    ({"train": {"strategy": "fsdp"}}, ["model mlp: FSDP: a part of each parameter on each process"]),
    ({"train": {"compile": "dynamic"}}, ["model mlp: compiled (dynamic)"]),
]


@pytest.mark.parametrize(("config", "lines"), LINES)
def test_the_plan_says_what_is_in_force_for_the_model(config: dict[str, Any], lines: list[str]) -> None:
    parsed = RunConfig.model_validate(config)
    assert model_lines(parsed.model, compiled=parsed.train.compile, strategy=parsed.train.strategy) == lines

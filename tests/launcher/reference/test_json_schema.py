"""The JSON schema takes every config that Lockstep takes, and refuses what is plainly wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from lockstep.launcher.config.launch_config import LaunchConfig
from lockstep.launcher.config.yaml_file import read_yaml
from lockstep.launcher.reference.json_schema import config_schema
from tests.helpers.paths import ROOT

CONFIGS = [*sorted(ROOT.glob("configs/*.yaml")), *sorted(ROOT.glob("examples/*/*.yaml"))]
TAKEN: tuple[dict[str, Any], ...] = (
    {},
    {"step": "./exp.py:step"},
    {"step": ["./exp.py:b", {"use": "./exp.py:a", "every": 2}]},
    {"metrics": ["accuracy", {"use": "f1", "args": {"average": "macro"}}]},
    {"hooks": "./exp.py"},
    {"hooks": {"on_end": "./exp.py:end"}},
    {"train": {"eval_every": 500, "compile": "dynamic"}, "log": {"profile": "10..20"}},
    {"train": {"eval_every": "1.5 epochs", "compile": True}, "log": {"profile": 20}},
    {"schedule": {"use": "multi_step", "at": ["50 %", 900]}},
    {"optimizers": {"g": {"match": "^g", "lr": 1, "schedule": {"use": "cosine"}}}},
    {"data": {"pad": {"to": 128, "values": {"target": -100}}}},
    {"slurm": {"time": 10, "gpus": "a100:4", "sbatch": {"nice": 100}}},
    {"model": {"frozen": {"teacher": {"use": "mlp"}}}},
)
REFUSED: tuple[dict[str, Any], ...] = (
    {"trian": {}},
    {"train": {"epoch": 5}},
    {"train": {"epochs": 0}},
    {"train": {"epochs": "five"}},
    {"train": {"precision": "fp8"}},
    {"train": {"eval_every": "5 hours"}},
    {"train": {"eval_every": 0}},
    {"metrics": "accuracy"},
    {"metrics": [{"name": "f"}]},
    {"step": {"args": {}}},
    {"optimizer": {"lr": -1}},
    {"optimizers": {"g": {"metch": "x"}}},
    {"data": {"pad": {"to": "shortest"}}},
)


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json.loads(json.dumps(config_schema()))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_config_of_the_repository_is_valid(validator: Draft202012Validator, path: Path) -> None:
    assert [error.message for error in validator.iter_errors(read_yaml(path, path.name).values)] == []


@pytest.mark.parametrize("values", TAKEN, ids=json.dumps)
def test_the_schema_takes_what_lockstep_takes(
    validator: Draft202012Validator, values: dict[str, Any]
) -> None:
    LaunchConfig.model_validate_json(json.dumps(values), strict=True)
    assert [error.message for error in validator.iter_errors(values)] == []


@pytest.mark.parametrize("values", REFUSED, ids=json.dumps)
def test_the_schema_refuses_what_lockstep_refuses(
    validator: Draft202012Validator, values: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError):
        LaunchConfig.model_validate_json(json.dumps(values), strict=True)
    assert list(validator.iter_errors(values)) != []


def test_the_schema_tells_what_each_key_means(validator: Draft202012Validator) -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.get("properties", {}).items():
                assert value.get("description"), key
            for value in node.values():
                walk(value)

    walk(validator.schema)
    assert "slurm_option" not in json.dumps(validator.schema)

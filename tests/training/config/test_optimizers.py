"""What an `optimizer:` section may say, and what is said of one that is wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.config.resolution import resolve
from lockstep.training.config.config_identity import identity_settings
from lockstep.training.config.optimizers import OPTIMIZERS, OptimizerConfig
from lockstep.training.config.run_config import RunConfig


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optimizer.use=rmsprp", "must be one of sgd, adam, adamw.*did you mean rmsprop?"),
        ("optimizer={use: rmsprop, betas: [0, 0]}", "optimizer.betas: rmsprop has no betas"),
        ("optimizer={use: muon, args: {a: 1}}", "optimizer.args: muon has no args"),
        ("optimizer={use: 'a.b:C', eps: 1.0}", "a.b:C has no eps; write it as args: {eps: ...}"),
        ("optimizer={use: rmsprop, groups: [{match: a, betas: [0, 0]}]}", "rmsprop has no betas (group 1)"),
        ("optimizer.groups=[{lr: 0.5}]", "say which parameters it is for: match, max_ndim or min_ndim"),
        ("optimizer.groups=[{match: '('}]", "not a regular expression"),
        ("optimizer.groups=[{match: a, until: 0}]", "must be greater than 0"),
        ("optimizer.groups=[{match: a, until: 3 minutes}]", "must be 500 steps or 2 epochs or 5 %"),
        ("optimizer.groups=[{match: a, frozen: false, until: 3}]", "so frozen cannot be false"),
        ("optimizer.groups=[{match: a, frozen: true, after: 3}]", "so that after says nothing"),
        ("optimizer.layers=[a]", "layers are for layer_decay, which is not set"),
        ("optimizer.layer_decay=1.5", "must be at most 1"),
        ("optimizer.clip_norm=0", "must be greater than 0"),
        ("optimizer.clip_value=-1", "must be greater than 0"),
        ("optimizer={use: sgd, nesterov: true, momentum: 0}", "nesterov needs a momentum above 0"),
    ],
)
def test_a_mistake_is_said_with_its_key(setting: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve("digits", [setting])
    pattern = re.escape(message).replace(r"\.\*", ".*")
    assert re.search(pattern, caught.value.message), caught.value.message


def test_another_optimizer_leaves_out_keys_that_it_does_not_have(tmp_path: Any) -> None:
    (tmp_path / "a.yaml").write_text('optimizer: {use: "a.b:C", args: {k: 3}}\n')
    resolved = resolve(str(tmp_path / "a.yaml"), ["optimizer.use=adadelta"])
    assert resolved.config.optimizer == OptimizerConfig(use="adadelta", lr=1.0)
    assert "optimizer.args of a.yaml:1 is left out" in resolved.notes[0]


def test_an_unset_learning_rate_is_torchs_and_an_own_class_keeps_its_own() -> None:
    assert {name: OptimizerConfig(use=name).lr for name in OPTIMIZERS} == {
        name: optimizer.lr for name, optimizer in OPTIMIZERS.items()
    }
    own = OptimizerConfig(use="package.module:Class")
    assert (own.lr, own.weight_decay) == (None, None)


def test_a_written_config_is_read_as_the_same() -> None:
    groups = [{"match": "a", "until": "2 epochs"}, {"max_ndim": 1, "eps": 0.1}]
    config = RunConfig.model_validate({"optimizer": {"groups": groups, "layer_decay": 0.5, "layers": ["a"]}})
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_new_keys_are_part_of_the_identity_where_they_are_set_only() -> None:
    before = {"match": "a", "lr": None, "weight_decay": 0.0}
    settings = identity_settings(RunConfig.model_validate({"optimizer": {"groups": [before]}}))
    assert settings["optimizer.groups"] == [before], "as the checkpoints of earlier versions hold it"
    assert {key for key in settings if key.startswith("optimizer.")} == {
        f"optimizer.{key}"
        for key in ("use", "lr", "weight_decay", "groups", "momentum", "nesterov", "betas", "eps")
    }
    new = {"clip_norm": 1.0, "clip_value": 2.0, "layer_decay": 0.5, "layers": ["a"], "amsgrad": True}
    assert {f"optimizer.{key}": value for key, value in new.items()}.items() <= identity_settings(
        RunConfig.model_validate({"optimizer": new})
    ).items()

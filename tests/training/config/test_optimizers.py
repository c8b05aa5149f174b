"""What an `optimizer:` section may say, and what is said of one that is wrong."""

from __future__ import annotations

import json
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


GAN = {"d": {"match": "^d"}, "g": {"use": "sgd", "schedule": {"use": "cosine"}}}
TURNS = [{"use": "./a.py:d", "optimizer": "d"}, {"use": "./a.py:g", "optimizer": "g", "every": 2}]


def _written(folder: Any, **sections: Any) -> str:
    (folder / "a.py").write_text("def d(model, batch): ...\ndef g(model, batch): ...\n")
    (folder / "a.yaml").write_text(json.dumps(sections))
    return str(folder / "a.yaml")


def test_each_optimizer_sees_the_config_as_if_it_were_the_only_one(tmp_path: Any) -> None:
    schedule = {"use": "linear"}
    config = resolve(_written(tmp_path, step=TURNS, optimizers=GAN, schedule=schedule)).config
    parts = config.parts()
    assert [(name, part.optimizer.use, part.schedule.use) for name, part in parts.items()] == [
        ("d", "adam", "linear"),
        ("g", "sgd", "cosine"),
    ]
    assert [(step.use, step.optimizer, step.every) for step in config.steps] == [
        ("./a.py:d", "d", 1),
        ("./a.py:g", "g", 2),
    ]
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert RunConfig().parts() == {"": RunConfig()}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"optimizer": {"lr": 1.0}, "optimizers": GAN}, "optimizer and optimizers: leave one of the two"),
        ({"step": [{"use": "./a.py:d", "optimizer": "x"}]}, "step: there is no x in optimizers"),
        ({"step": TURNS[:1], "optimizers": GAN}, "step: none is for the optimizer g, which would do nothing"),
        ({"step": TURNS[::-1], "optimizers": GAN}, "step: the first is taken in every step of the run"),
        ({"step": [TURNS[0], TURNS[0]], "optimizers": GAN}, "none is for the optimizer g"),
        ({"step": ["./a.py:d", "./a.py:d"]}, "step: two are called d"),
        ({"step": []}, "step: must have at least 1 values"),
        (
            {"step": [{"use": "./a.py:d", "evry": 2}]},
            'unknown key "step[0].evry"; did you mean "step[0].every"?',
        ),
        ({"step": [{"use": "./a.py:d", "every": 0}]}, "step[0].every = 0: must be greater than 0"),
        ({"step": ["./a.py:d", {"use": "./a.py:g", "args": {"k": 1}}]}, "./a.py:g has no such argument"),
        ({"optimizers": {"g": {"use": "sgd", "eps": 1}}}, "optimizers.g.eps = 1: sgd has no eps"),
    ],
)
def test_optimizers_and_turns_that_do_not_fit_are_refused(
    tmp_path: Any, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        resolve(_written(tmp_path, **sections))
    assert message in caught.value.message

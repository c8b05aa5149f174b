"""W&B's own variables: honoured where the config says nothing, and said where a value came from."""

from __future__ import annotations

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.config.resolution import resolve, to_yaml
from lockstep.training.config.trackers import WandbConfig
from lockstep.training.config.wandb_environment import requested_mode, requested_settings
from lockstep.training.tracking.wandb_tracker import choose_mode

VARIABLES = {
    "WANDB_PROJECT": "mine",
    "WANDB_ENTITY": "us",
    "WANDB_NAME": "first try",
    "WANDB_RUN_GROUP": "tries",
    "WANDB_TAGS": "a, b,",
    "WANDB_JOB_TYPE": "train",
    "WANDB_NOTES": "none",
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "mode"),
    [
        ({}, None),
        ({"WANDB_MODE": "offline"}, ("offline", "WANDB_MODE")),
        ({"WANDB_MODE": "dryrun"}, ("offline", "WANDB_MODE")),
        ({"WANDB_MODE": " Online "}, ("online", "WANDB_MODE")),
        ({"WANDB_MODE": "other"}, None),
        ({"WANDB_DISABLED": "true", "WANDB_MODE": "online"}, ("disabled", "WANDB_DISABLED")),
        ({"WANDB_DISABLED": "1"}, ("disabled", "WANDB_DISABLED")),
        ({"WANDB_DISABLED": "false", "WANDB_MODE": "online"}, ("online", "WANDB_MODE")),
        ({"WANDB_DISABLED": ""}, None),
    ],
)
def test_the_mode_that_is_asked_for(
    variables: dict[str, str], mode: tuple[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert requested_mode(variables) == mode
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert choose_mode(WandbConfig()) == (mode[0] if mode else "online")
    assert choose_mode(WandbConfig(mode="offline")) == "offline"
    said = resolve("digits").origins["wandb.mode"]
    assert said == ("default" if mode is None else f"default: {mode[0]}, by {mode[1]}")


def test_what_the_variables_set_is_in_the_config_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    resolved = resolve("digits", ["wandb.entity=them"])
    wandb = resolved.config.wandb
    assert (wandb.project, wandb.entity, wandb.name, wandb.group) == ("mine", "them", "first try", "tries")
    assert (wandb.tags, wandb.job_type, wandb.notes) == (("a", "b"), "train", "none")
    assert resolved.origins["wandb.project"] == "environment WANDB_PROJECT"
    assert resolved.origins["wandb.tags"] == "environment WANDB_TAGS"
    assert resolved.origins["wandb.entity"] == "override wandb.entity=them"
    assert "project: mine" in to_yaml(resolved)


def test_what_is_empty_sets_nothing_and_what_is_wrong_is_told_with_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert requested_settings({"WANDB_PROJECT": " ", "WANDB_NAME": ""}) == {}
    assert resolve("digits").config.wandb == WandbConfig()
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    with pytest.raises(UsageError, match="wandb = 5: must be a mapping"):
        resolve("digits", ["wandb=5"])

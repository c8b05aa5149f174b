"""What ``--json`` prints is as the published schemas say. The whole suite validates too: see ``Result.document``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
import typer

from lockstep.data.common.errors import UsageError
from lockstep.launcher.cli import config_commands, help_commands, run_commands
from lockstep.launcher.manual.output_schemas import (
    FAILURE,
    STATUSES,
    commands_with_schemas,
    for_agents,
    output_schema,
)
from lockstep.launcher.runs.run_folder import runs_root
from lockstep.launcher.runs.run_status import _OVER
from tests.helpers.launch import Launch
from tests.helpers.run_folders import make_run, step_event
from tests.launcher.cli.test_help import COMMANDS


def test_every_command_with_json_has_a_valid_schema_and_no_other_has() -> None:
    with_json = {
        path.removeprefix("launch ")
        for path, command in COMMANDS.items()
        if any(param.name == "json" for param in command.params)
    }
    assert set(commands_with_schemas()) == with_json
    for command in commands_with_schemas():
        jsonschema.Draft202012Validator.check_schema(output_schema(command))
    with pytest.raises(UsageError, match="nope: prints no JSON document"):
        output_schema("nope")


def _strict(command: str) -> dict[str, Any]:
    """The schema without the document of an error, which would let too much pass."""
    schema = output_schema(command)
    return schema | {"anyOf": [part for part in schema["anyOf"] if part is not FAILURE]}


def _printed(call: Callable[[], Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    with pytest.raises(typer.Exit):
        call()
    return json.loads(capsys.readouterr().out)


def _make(name: str, status: str = "done") -> None:
    outcome = {
        "run": name,
        "status": status,
        "exit_code": 0 if status == "done" else 1,
        "metrics": {"val/loss": 0.5},
    }
    epoch = {"event": "epoch", "epoch": 0, "step": 2, "time": 2.0, "train/loss": 0.25, "val/loss": None}
    folder = make_run(name, step_event(1), epoch, outcome=outcome)
    (folder / "attempt-1" / "rank-0.log").write_text("ready\n")


@pytest.mark.parametrize(
    ("command", "call"),
    [
        ("status", lambda: run_commands.status(json=True)),
        ("status", lambda: run_commands.status("one", json=True)),
        ("logs", lambda: run_commands.logs("one", json=True)),
        ("compare", lambda: run_commands.compare(json=True)),
        ("cache", lambda: run_commands.cache(json=True)),
        ("stop", lambda: run_commands.stop("one", json=True)),
        ("cancel", lambda: run_commands.cancel("one", json=True)),
        ("rm", lambda: run_commands.rm(["one", "two"], yes=True, json=True)),
        ("config show", lambda: config_commands.show("digits", json=True)),
        ("config why", lambda: config_commands.why("optimizer.lr", "digits", json=True)),
        ("config why", lambda: config_commands.why("optimizer", "digits", json=True)),
        ("init", lambda: config_commands.init(runs_root().parent / "new", json=True)),
        ("doctor", lambda: help_commands.doctor(quick=True, json=True)),
    ],
)
def test_a_document_is_as_its_schema_says(
    command: str, call: Callable[[], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    _make("one")
    _make("two", "failed")
    document = _printed(call, capsys)
    jsonschema.validate(document, _strict(command))
    for key in set(document) - {"schema_version"}:
        broken = {name: value for name, value in document.items() if name != key}
        if (
            key in str([part.get("required") for part in _strict(command)["anyOf"][:2]])
            and command != "config why"
        ):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(broken, _strict(command))


@pytest.mark.exhaustive
def test_a_training_its_plan_its_evaluation_and_an_error(launch: Launch, own: Any) -> None:
    config = [str(own / "own.yaml"), "--cpu", "1", "train.epochs=1"]
    for words in (
        ["train", *config, "--name", "one", "--json"],
        ["eval", "one", "--json"],
        ["train", *config, "--dry-run", "--json"],
        ["sweep", *config, "train.seed=0,1", "--dry-run", "--json"],
    ):
        jsonschema.validate(launch(*words).document, _strict(words[0]))
    error = launch("train", "nope", "--json").document
    jsonschema.validate(error, {**FAILURE})
    assert error["exit_code"] == 2


def test_agents_are_told_of_commands_and_statuses_that_there_are(launch: Launch) -> None:
    text = for_agents()
    assert launch("schema", "--agents").out == text
    assert set(_OVER) < set(STATUSES)
    assert all(f"`{status}`" in text for status in STATUSES)
    named = {word for word in text.replace("|", " ").split("`") if word.startswith("launch ")}
    for line in named:
        words = line.split()[1:]
        assert (
            any(f"launch {' '.join(words[:count])}" in COMMANDS for count in (1, 2)) or words[0].isupper()
        ), line
    listed = launch("schema")
    assert listed.out.split("\n")[:-1] == commands_with_schemas()
    assert json.loads(launch("schema", "config", "why").out) == output_schema("config why")

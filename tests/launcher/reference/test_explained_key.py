"""``launch config``: what is shown of a whole config and of one key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.config.resolution import resolve
from lockstep.launcher.reference.explained_key import explain_key, show_config
from tests.helpers.launch import Launch

FILE = """\
train: {epochs: 2}
optimizers:
  body: {match: ^body, lr: 0.5, schedule: {use: cosine}}
  rest: {lr: 0.1}
metrics: [accuracy, {use: f1, args: {average: micro}}]
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "exp.yaml").write_text(FILE)
    return str(tmp_path / "exp.yaml")


@pytest.mark.parametrize(
    ("key", "first", "inside"),
    [
        ("train.epochs", "train.epochs = 7  # override train.epochs=7", "default    5"),
        ("train.seed", "train.seed = 0  # default", "another value makes it another run"),
        ("checkpoint.every_minutes", "checkpoint.every_minutes = unset  # default", "unit       minutes"),
        ("optimizers.body.lr", "optimizers.body.lr = 0.5  # exp.yaml:3", "type       number > 0"),
        (
            "optimizers.body.schedule.use",
            "optimizers.body.schedule.use = cosine  # exp.yaml:3",
            "One of those",
        ),
        (
            "metrics.1.args.average",
            "metrics.1.args.average = micro  # exp.yaml:5",
            "macro, micro, weighted, binary",
        ),
        ("data.args.train", "data.args.train = unset  # default", "Samples for training."),
        ("slurm.time", "slurm.time = unset  # default", "Time limit"),
        ("log", "log", "log.every_steps = 50  # default"),
    ],
)
def test_a_key_is_explained(
    file: str, capsys: pytest.CaptureFixture[str], key: str, first: str, inside: str
) -> None:
    assert explain_key(resolve(file, ["train.epochs=7"]), key, as_json=False) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == first
    assert inside in out


def test_a_key_that_no_config_has_is_refused_with_the_one_that_was_meant(file: str) -> None:
    with pytest.raises(UsageError, match=r'unknown key "train.epoch"; did you mean "train.epochs"'):
        explain_key(resolve(file), "train.epoch", as_json=False)


def test_json_has_the_same(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    explain_key(resolve(file), "train.epochs", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert (found["value"], found["origin"], found["default"]) == (2, "exp.yaml:1", "`5`")
    assert found["may_change_on_resume"] is True
    show_config(resolve(file), as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["config"]["train"]["epochs"] == 2
    assert found["origins"]["train.epochs"] == "exp.yaml:1"


def test_what_is_shown_is_a_config(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_config(resolve(file), as_json=False)
    text = capsys.readouterr().out
    assert "epochs: 2" in text
    assert "# exp.yaml:1" in text
    again = tmp_path / "again.yaml"
    again.write_text(text)
    assert resolve(str(again)).config == resolve(file).config


def test_the_commands_are_there(launch: Launch) -> None:
    shown = launch("config", "why", "optimizer.lr", "mnist")
    assert shown.status == 0, shown.err
    assert shown.out.startswith("optimizer.lr = 0.001  # mnist.yaml:")
    schema = launch("config", "schema")
    assert json.loads(schema.out)["title"] == "Lockstep config"

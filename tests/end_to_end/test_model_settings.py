"""Settings of the model that change how it is computed, and not what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launch import Launch
from tests.helpers.run_records import check_equal_training
from tests.helpers.user_project import KILLED_LOSS

NORMED = """
def normed():
    convolution = nn.Sequential(nn.Unflatten(1, (1, 7, 1)), nn.Conv2d(1, 3, (3, 1)), nn.BatchNorm2d(3), nn.Tanh())
    head = nn.Sequential(nn.Flatten(), nn.Linear(15, 5), nn.BatchNorm1d(5), nn.Linear(5, 2))
    return nn.Sequential(convolution, head)
"""
ASKED = ("model.use=./own.py:normed", "model.sync_batch_norm=true", "train.epochs=1", "data.args={n: 126}")
"""126 samples in batches of 31: the last batch has two, and the third of three ranks none."""


@pytest.mark.exhaustive
def test_a_synchronised_norm_is_that_of_one_process_and_survives_a_kill(launch: Launch, own: Path) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + NORMED + KILLED_LOSS)
    (own / "own.yaml").write_text((own / "own.yaml").read_text() + 'loss: {use: "./own.py:killed"}\n')

    def trained(name: str, cpu: int, *settings: str) -> dict[str, Any]:
        done = launch(
            "train", "own.yaml", *ASKED, *settings, "--cpu", str(cpu), "--name", name, "--json", cwd=own
        )
        assert done.status == 0, done.err
        assert "results depend on the number of processes" not in done.err
        return done.document

    one = trained("one", 1)
    layouts = trained("layouts", 1, "model.channels_last=true", "model.checkpointing=^0$")
    check_equal_training(one, layouts, 1e-12)
    again = trained("again", 1, "model.checkpointing=^0$")
    assert again["state_sha256"] == one["state_sha256"], "what is computed again is the same to the bit"
    check_equal_training(one, trained("two", 2, "model.checkpointing=^0$"), 1e-12)
    three = trained("three", 3, "checkpoint.every_steps=2")
    check_equal_training(one, three, 1e-12)
    killed = launch(
        *("train", "own.yaml", *ASKED, "checkpoint.every_steps=2", "--cpu", "3", "--name", "killed"),
        cwd=own,
        env={"KILL_AT": "7"},
    )
    assert killed.status != 0
    resumed = launch("resume", "killed", "--cpu", "3", "--json", cwd=own)
    assert resumed.status == 0, resumed.err
    assert resumed.document["state_sha256"] == three["state_sha256"]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["model.sync_batch_norm=true", "data.max_micro_batch=7"], "cuts a rank's 31 samples"),
        (["model.sync_batch_norm=true", "data.args={n: 125}"], "some batch is a single sample"),
        (["model.checkpointing=^0$", "train.compile=true"], "do not go together"),
        (["model.checkpointing=encoder"], "no module has such a name"),
        (["model.checkpointing=("], "not a regular expression"),
        (["model.channels_last=true"], "has no two-dimensional convolution"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    launch: Launch, own: Path, settings: list[str], words: str
) -> None:
    done = launch("train", "own.yaml", *settings, "--cpu", "1", "--name", "run", cwd=own)
    assert done.status == 2
    assert words in done.err

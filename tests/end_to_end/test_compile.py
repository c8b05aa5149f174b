"""``train.compile`` with torch's real compiler: it makes C++ of the model, which takes a minute."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.launch import Launch, run_folder
from tests.helpers.run_records import final_weights
from tests.helpers.user_project import KILLED_LOSS

ASKED = ("train.compile=true", "train.epochs=1", "checkpoint.every_steps=20", "loss.use=./own.py:killed")


def _trained(launch: Launch, own: Path, name: str, *settings: str, cpu: int, env: Any) -> dict[str, Any]:
    done = launch(
        "train", "own.yaml", *settings, "--cpu", str(cpu), "--name", name, "--json", cwd=own, env=env
    )
    assert done.status == 0, done.err
    return done.document


def _notes(name: str) -> list[str]:
    events = [json.loads(line) for line in (run_folder(name) / "metrics.jsonl").read_text().splitlines()]
    return [event["message"] for event in events if event["event"] == "note"]


@pytest.mark.exhaustive
def test_a_compiled_training_is_the_plain_one_on_any_number_of_processes_and_after_a_kill(
    launch: Launch, own: Path, tmp_path: Path
) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + KILLED_LOSS)
    env = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}  # nothing is compiled yet
    three = _trained(launch, own, "three", *ASKED, cpu=3, env=env)
    one = _trained(launch, own, "one", *ASKED, cpu=1, env=env)
    plain = _trained(launch, own, "plain", *ASKED, "train.compile=false", cpu=1, env=env)
    for compiled in (one, three):
        assert compiled["order_sha256"] == plain["order_sha256"]
        weights, expected = final_weights(compiled), final_weights(plain)
        assert weights.keys() == expected.keys()
        for name, tensor in expected.items():
            torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-12)
    assert "train.compile: compiled 1 program, " in _notes("one")[0]
    assert "compiled again, mostly for a batch of another shape: 2 programs" in _notes("one")[1]
    at = {**env, "KILL_AT": "29"}
    killed = launch("train", "own.yaml", *ASKED, "--cpu", "1", "--name", "killed", cwd=own, env=at)
    assert killed.status != 0
    assert not Path(run_folder("killed") / "checkpoints" / "step_00000033").exists()
    resumed = launch("resume", "killed", "--cpu", "1", "--json", cwd=own, env=env)
    assert resumed.status == 0, resumed.err
    assert resumed.document["weights_sha256"] == one["weights_sha256"]
    assert resumed.document["state_sha256"] == one["state_sha256"]
    checkpoint = max((run_folder("killed") / "checkpoints").iterdir())
    assert set(load_file(checkpoint / "model.safetensors")) == {"0.weight", "0.bias", "2.weight", "2.bias"}


@pytest.mark.exhaustive
def test_a_step_that_calls_the_model_is_compiled(launch: Launch, own: Path, tmp_path: Path) -> None:
    code = "\ndef step(model, batch):\n"
    code += "    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction='none')\n"
    (own / "own.py").write_text((own / "own.py").read_text() + code)
    env = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    asked = ("step=./own.py:step", "train.epochs=1")
    plain = _trained(launch, own, "plain", *asked, cpu=2, env=env)
    compiled = _trained(launch, own, "compiled", *asked, "train.compile=true", cpu=2, env=env)
    for name, tensor in final_weights(plain).items():
        torch.testing.assert_close(final_weights(compiled)[name], tensor, rtol=0, atol=1e-12)
    assert "train.compile: compiled 1 program, " in _notes("compiled")[0]


@pytest.mark.exhaustive
def test_what_cannot_be_compiled_here_is_said_before_the_first_step(launch: Launch, own: Path) -> None:
    env = {**os.environ, "CXX": "no-such-compiler"}
    done = launch("train", "own.yaml", "train.compile=true", "--cpu", "1", "--name", "run", cwd=own, env=env)
    assert done.status == 3
    assert "there is no compiler no-such-compiler" in done.err
    assert not (run_folder("run") / "metrics.jsonl").exists()

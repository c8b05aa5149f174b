"""``launch replay``: the very samples that a rank had in a step, and the losses that training had of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lockstep.data.common import UsageError
from lockstep.launcher.inference.run_replay import _world_size_at
from lockstep.training.inference.replay import ReplayRequest, replay
from tests.helpers.launch import Launch, run_folder
from tests.helpers.run_folders import make_run, step_event


def test_the_ranks_of_a_step_are_those_of_the_attempt_that_took_it() -> None:
    starts = [
        {"time": 1.0, "event": "start", "step": step, "world_size": size} for step, size in ((0, 4), (10, 2))
    ]
    folder = make_run("r", starts[0], step_event(10), starts[1], step_event(15))
    assert [_world_size_at(folder, step) for step in (1, 10, 11, 15)] == [4, 4, 2, 2]
    for step in (0, 16):
        with pytest.raises(UsageError, match="r has recorded 15 steps"):
            _world_size_at(folder, step)
    with pytest.raises(UsageError) as refused:
        _world_size_at(make_run("begun", starts[0]), 1)
    assert refused.value.message == "--step 1: begun has recorded no step"


def test_a_replayed_step_has_the_loss_that_training_logged(launch: Launch, own: Path) -> None:
    code = (own / "own.py").read_text().replace("nn.Tanh()", "nn.Tanh(), nn.Dropout(0.3)")
    (own / "own.py").write_text(code)
    settings = ["train.max_steps=40", "log.every_steps=1", "checkpoint.every_steps=20", "tracking=[]"]
    trained = launch("train", "own.yaml", "--cpu", "2", "--name", "r", *settings, cwd=own)
    assert trained.status == 0, trained.err
    shown = launch("replay", "r", "--step", "21", "--out", "batch.safetensors", "--json", cwd=own)
    assert shown.status == 0, shown.err
    document = shown.document
    rows = document["samples"]
    assert (document["exact"], document["weights_step"], document["world_size"]) == (True, 20, 2)
    assert [row["rank"] for row in rows] == [0] * 15 + [1] * 16
    events = map(json.loads, (run_folder("r") / "metrics.jsonl").read_text().splitlines())
    (logged,) = [e["train/loss"] for e in events if e["event"] == "step" and e["step"] == 21]
    assert sum(row["loss"] for row in rows) / 31 == pytest.approx(logged, abs=1e-12)
    for out, said in (
        ("batch.safetensors", "is there already"),
        (".", "a folder"),
        ("own.py", "not a .safetensors"),
    ):
        refused = launch("replay", "r", "--step", "21", "--out", out, *["--force"] * (out == "."), cwd=own)
        assert (refused.status, refused.out, said in refused.err) == (2, "", True)
    tensors = load_file(own / "batch.safetensors")
    assert tensors["rank1.micro0.index"].tolist() == [row["index"] for row in rows if row["rank"] == 1]
    namespace: dict = {}
    exec(code, namespace)
    x, y = namespace["data"]()["train"]
    index = tensors["rank0.micro0.index"]
    assert torch.equal(tensors["rank0.micro0[0]"], x[index])
    assert torch.equal(tensors["rank0.micro0[1]"], y[index])
    later = replay(ReplayRequest(run_folder("r"), 30, (1,), 2, None))
    assert (later["exact"], later["weights_step"], later["epoch"]) == (False, 20, 1)
    assert {row["rank"] for row in later["samples"]} == {1}


def test_a_run_with_logical_ranks_is_refused(launch: Launch, own: Path) -> None:
    settings = ["train.logical_ranks=2", "train.max_steps=2", "log.every_steps=1", "tracking=[]"]
    assert launch("train", "own.yaml", "--cpu", "1", "--name", "k", *settings, cwd=own).status == 0
    refused = launch("replay", "k", "--step", "1", cwd=own)
    assert refused.status == 2
    assert "k has logical ranks" in refused.err

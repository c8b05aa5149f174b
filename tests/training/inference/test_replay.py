"""``launch replay``: the very samples that a rank had in a step, and the losses that training had of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lockstep.data.common import UsageError
from lockstep.launcher.inference.run_replay import _start_before
from lockstep.training.inference.child import answer_with
from lockstep.training.inference.model_export import ExportRequest, export
from lockstep.training.inference.replay import ReplayRequest, replay
from tests.helpers.launch import Launch, run_folder
from tests.helpers.run_folders import make_run, step_event


def test_the_ranks_of_a_step_are_those_of_the_attempt_that_took_it() -> None:
    starts = [
        {"time": 1.0, "event": "start", "step": step, "world_size": size} for step, size in ((0, 4), (10, 2))
    ]
    folder = make_run("r", starts[0], step_event(10), starts[1], step_event(15))
    assert [_start_before(folder, step)["world_size"] for step in (1, 10, 11, 15)] == [4, 4, 2, 2]
    for step in (0, 16):
        with pytest.raises(UsageError, match="r has recorded 15 steps"):
            _start_before(folder, step)
    with pytest.raises(UsageError) as refused:
        _start_before(make_run("begun", starts[0]), 1)
    assert refused.value.message == "--step 1: begun has recorded no step"


SEEING = """
import os

import lockstep


class Seeing(nn.Module):
    def forward(self, x):
        return x + 0 * lockstep.gather(x).mean() if os.environ.get("GATHERS") else x
"""
DRIFT = """
class Drift(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(11, dtype=torch.float64))

    def forward(self, x):
        if self.training:
            self.mean = self.mean.lerp(x.detach().mean(0), 0.3)
        return x - self.mean
"""
"""Its buffer is each rank's own, and its outputs depend on it."""


def _with_limit(folder: Path, limit: int | None) -> None:
    """Change the spec as a resume with another ``data.max_micro_batch`` does."""
    spec = json.loads((folder / "spec.json").read_text())
    spec["config"]["data"]["max_micro_batch"] = limit
    (folder / "spec.json").write_text(json.dumps(spec))


def test_a_replayed_step_has_the_loss_that_training_logged(launch: Launch, own: Path) -> None:
    code = (own / "own.py").read_text().replace("nn.Tanh()", "nn.Tanh(), Drift(), nn.Dropout(0.3)") + DRIFT
    (own / "own.py").write_text(code)
    settings = ["train.max_steps=40", "log.every_steps=1", "checkpoint.every_steps=20", "tracking=[]"]
    settings.append("data.max_micro_batch=6")
    trained = launch("train", "own.yaml", "--cpu", "2", "--name", "r", *settings, cwd=own)
    assert trained.status == 0, trained.err
    _with_limit(run_folder("r"), None)
    shown = launch("replay", "r", "--step", "21", "--out", "batch.safetensors", "--json", cwd=own)
    assert shown.status == 0, shown.err
    document = shown.document
    rows = document["samples"]
    assert (document["exact"], document["weights_step"], document["world_size"]) == (True, 20, 2)
    assert not document["mixes_ranks"]
    assert [row["rank"] for row in rows] == [0] * 15 + [1] * 16
    assert [row["micro_batch"] for row in rows] == [0] * 5 + [1] * 5 + [2] * 5 + [0] * 5 + [1] * 5 + [2] * 6
    events = map(json.loads, (run_folder("r") / "metrics.jsonl").read_text().splitlines())
    (logged,) = [e["train/loss"] for e in events if e["event"] == "step" and e["step"] == 21]
    assert sum(row["loss"] for row in rows) / 31 == pytest.approx(logged, abs=1e-12)
    tensors = load_file(own / "batch.safetensors")
    indices = [tensors[f"rank1.micro{number}.index"] for number in range(3)]
    assert torch.cat(indices).tolist() == [row["index"] for row in rows if row["rank"] == 1]
    namespace: dict = {}
    exec(code, namespace)
    x, y = namespace["data"]()["train"]
    index = tensors["rank0.micro0.index"]
    assert torch.equal(tensors["rank0.micro0[0]"], x[index])
    assert torch.equal(tensors["rank0.micro0[1]"], y[index])
    later = replay(ReplayRequest(run_folder("r"), 30, (1,), 2, {}, None))
    assert (later["exact"], later["weights_step"], later["epoch"]) == (False, 20, 1)
    assert {row["rank"] for row in later["samples"]} == {1}
    data = {"max_micro_batch": 6}
    for step in (1, 21):  # whichever ranks came before it
        both, alone = (
            replay(ReplayRequest(run_folder("r"), step, ranks, 2, data, None)) for ranks in ((0, 1), (1,))
        )
        assert both["samples"][15:] == alone["samples"]


@pytest.fixture
def short(launch: Launch, own: Path) -> Path:
    """A run of two steps on one process."""
    (own / "own.py").write_text((own / "own.py").read_text().replace("nn.Tanh()", "Seeing()") + SEEING)
    settings = ["train.max_steps=2", "log.every_steps=1", "tracking=[]"]
    assert launch("train", "own.yaml", "--cpu", "1", "--name", "s", *settings, cwd=own).status == 0
    return run_folder("s")


def test_what_sees_all_ranks_is_not_exact(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def seen() -> list[tuple[bool, bool]]:
        asked = [ReplayRequest(short, 1, tuple(range(world)), world, {}, None) for world in (1, 2)]
        return [(one["exact"], one["mixes_ranks"]) for one in map(replay, asked)]

    assert seen() == [(True, False), (True, False)]
    monkeypatch.setenv("GATHERS", "1")
    assert seen() == [(True, False), (False, True)]
    monkeypatch.delenv("GATHERS")
    spec = json.loads((short / "spec.json").read_text())
    spec["config"]["model"]["sync_batch_norm"] = True
    (short / "spec.json").write_text(json.dumps(spec))
    assert seen() == [(True, False), (False, True)]


def test_only_what_is_written_is_blamed_on_out(short: Path, own: Path, capsys: pytest.CaptureFixture) -> None:
    def answered(task: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        answer_with(task)
        return json.loads(capsys.readouterr().out.splitlines()[-1])["error"]

    out = own / "none" / "batch.safetensors"
    written = answered(lambda: replay(ReplayRequest(short, 1, (0,), 1, {}, out)))
    assert (written["kind"], str(out) in written["message"]) == ("UsageError", True)
    weights = ExportRequest(short, None, "safetensors", out, None)
    assert str(out) in answered(lambda: export(weights))["message"]
    (short / "spec.json").rename(own / "spec.json")
    (short / "spec.json").mkdir()
    unread = answered(lambda: replay(ReplayRequest(short, 1, (0,), 1, {}, own / "batch.safetensors")))
    assert (unread["kind"], "batch.safetensors" in unread["message"]) == ("MachineError", False)
    assert str(short / "spec.json") in unread["message"]
    (short / "spec.json").rmdir()
    broken = own / "broken.safetensors"
    broken.write_bytes(b"\0" * 20)
    damaged = answered(lambda: dict(load_file(broken)))
    assert damaged["kind"] == "DamagedError"


def test_a_run_with_logical_ranks_is_refused(launch: Launch, own: Path) -> None:
    settings = ["train.logical_ranks=2", "train.max_steps=2", "log.every_steps=1", "tracking=[]"]
    assert launch("train", "own.yaml", "--cpu", "1", "--name", "k", *settings, cwd=own).status == 0
    refused = launch("replay", "k", "--step", "1", cwd=own)
    assert refused.status == 2
    assert "k has logical ranks" in refused.err

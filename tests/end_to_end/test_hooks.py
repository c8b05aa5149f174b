"""Hooks: what they log and keep is the same on any number of processes and after a kill, and training is as without."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lockstep.data.prepare import prepare
from lockstep.launcher.config.resolution import resolve
from lockstep.training.config.run_spec import RunSpec
from tests.helpers.launch import JobServer, free_port, job_server
from tests.helpers.user_project import USER_CODE

CODE = """
import random
import numpy as np

def on_start(state):
    state.log("begun", (state.step, state.world_size))

def on_step(state):
    saved = state.saved or {"calls": 0, "drawn": 0.0, "mean": torch.zeros(2, dtype=torch.float64)}
    parameter = next(state.model.parameters())
    drawn = random.random() + float(np.random.rand()) + float(torch.rand(()))
    state.log("per_rank", (parameter.grad.norm() * (state.rank + 1), state.rank + 1))
    if state.step % 3 == 0:
        state.log("norm", parameter.norm())
    if state.step == 6:
        state.log("text", "six")
        state.log("weights", parameter.clamp(0, 1))
    mean = saved["mean"] + parameter[:2, 0]
    return {**saved, "calls": saved["calls"] + 1, "drawn": saved["drawn"] + drawn, "mean": mean}

def on_evaluate(state):
    with state.evaluating():
        out = state.model(torch.ones(2, 7, dtype=torch.float64))
    state.log("probe", (out.sum(), 2))
    state.log("sure", state.metrics["val/accuracy"])

def on_checkpoint(state):
    return {**state.saved, "checkpoints": state.saved.get("checkpoints", 0) + 1}

def on_end(state):
    state.log("end/calls", state.saved["calls"])
    state.log("end/checkpoints", state.saved["checkpoints"])
"""
CONFIG = """
data: {use: "./own.py:data", args: {n: 203, m: 53}, batch_size: 29}
model: {use: "./own.py:model"}
optimizer: {use: sgd, lr: 0.2, momentum: 0.9}
metrics: [accuracy, f1]
train: {epochs: 2, precision: fp64, metrics: true}
log: {every_steps: 3}
checkpoint: {every_steps: 4}
tracking: []
"""
SKIPPED = (
    "time",
    "event",
    "world_size",
    "seconds",
    "samples_per_second",
    "train_seconds",
    "val_seconds",
    "memory_peak_mb",
)


@pytest.fixture(scope="module")
def server() -> Iterator[JobServer]:
    with job_server("killed_ranks", OMP_WAIT_POLICY="PASSIVE", WANDB_MODE="disabled") as server:
        yield server


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, server: JobServer) -> dict[str, Path]:
    """Runs of one and of three processes, one that was killed on the way, and one without hooks."""
    base = tmp_path_factory.mktemp("hooked")
    (base / "own.py").write_text(USER_CODE + CODE)
    (base / "own.yaml").write_text(CONFIG)
    found = {}
    for name, world, settings in (
        ("one", 1, ["hooks=./own.py"]),
        ("three", 3, ["hooks=./own.py"]),
        ("killed", 3, ["hooks=./own.py"]),
        ("without", 3, []),
    ):
        resolved = resolve(str(base / "own.yaml"), settings)
        spec = RunSpec(name, resolved.config, resolved.base, prepare(resolved.config.data, base), "cpu", "id")
        found[name] = base / name
        found[name].mkdir()
        (found[name] / "spec.json").write_text(json.dumps(spec.to_json()))
        if name == "killed":
            assert 0 not in _run(server, found[name], world, {"place": "step", "number": 11, "rank": None})
        statuses = _run(server, found[name], world)
        assert statuses == [0] * world, (found[name] / "rank-0.log").read_text()
    return found


def _run(server: JobServer, folder: Path, world: int, kill: dict[str, Any] | None = None) -> list[int]:
    job = {"folder": str(folder), "world": world, "port": free_port(), "threads": 1, "kill": kill}
    return list(server.ask(job))


def _record(folder: Path) -> list[dict[str, Any]]:
    """The events that training and hooks have written, without what is a time."""
    events = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    kinds = ("step", "epoch", "log", "text", "pictures")
    return [
        {"kind": event["event"], **{key: value for key, value in event.items() if key not in SKIPPED}}
        for event in events
        if event["event"] in kinds and event.get("hook") != "on_start"
    ]


def _outcome(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "outcome.json").read_text())
    return document


def test_training_is_as_without_hooks_to_the_bit(runs: dict[str, Path]) -> None:
    hooked, without = _outcome(runs["three"]), _outcome(runs["without"])
    for key in ("weights_sha256", "state_sha256", "order_sha256"):
        assert hooked[key] == without[key]
    plain = [event for event in _record(runs["without"]) if event["kind"] == "step"]
    own = [event for event in _record(runs["three"]) if event["kind"] == "step" and "train/loss" in event]
    assert [event["train/loss"] for event in own] == [event["train/loss"] for event in plain]


def test_a_killed_run_logs_and_keeps_the_same_to_the_bit(runs: dict[str, Path]) -> None:
    assert _record(runs["killed"]) == _record(runs["three"])
    assert _saved(runs["killed"]) == _saved(runs["three"])
    begun = [json.loads(line) for line in (runs["killed"] / "metrics.jsonl").read_text().splitlines()]
    first, second = [event["begun"] for event in begun if event.get("hook") == "on_start"]
    assert (first, second * 3) in [(0.0, 4.0), (0.0, 7.0), (0.0, 8.0)]  # whichever checkpoint was whole


def _saved(folder: Path) -> tuple[Any, ...]:
    newest = max((folder / "checkpoints").iterdir())
    state = json.loads((newest / "state.json").read_text())
    return state["hooks"], (newest / "hooks.safetensors").read_bytes()


def test_metrics_of_training_are_those_of_its_own_outputs(runs: dict[str, Path]) -> None:
    """What a killed run logs equal to the bit is told above."""
    one, three = (_record(runs[name]) for name in ("one", "three"))
    rows = [(a, b) for a, b in zip(one, three, strict=True) if "train/accuracy" in a]
    assert [row["step"] for row, _ in rows] == [3, 6, 7, 7, 10, 13, 14, 14]
    assert all(b["train/accuracy"] == pytest.approx(a["train/accuracy"], rel=1e-14) for a, b in rows)
    first, second, third, epoch = (row["train/accuracy"] for row, _ in rows[:4])
    assert epoch == pytest.approx((87 * first + 87 * second + 29 * third) / 203, rel=1e-12)
    assert not any("train/f1" in row for row in one)
    events = map(json.loads, (runs["one"] / "metrics.jsonl").read_text().splitlines())
    (start,) = [event for event in events if event["event"] == "start"]
    assert any(note.startswith("train.metrics: f1 is measured in evaluation only") for note in start["notes"])


def test_every_step_is_logged_in_its_place_and_pairs_are_those_of_all_ranks(runs: dict[str, Path]) -> None:
    rows = {name: [row for row in _record(runs[name]) if row["kind"] == "step"] for name in ("one", "three")}
    for found in rows.values():
        assert [row["step"] for row in found] == list(range(1, 15))
        assert [row["step"] for row in found if "train/loss" in row] == [3, 6, 7, 10, 13, 14]
        assert [row["step"] for row in found if "rank0/norm" in row] == [3, 6, 9, 12]
        assert [row["epoch"] for row in found] == [0] * 7 + [1] * 7
    for one, three in zip(rows["one"], rows["three"], strict=True):  # the gradient is the same on every rank
        assert three["per_rank"] == pytest.approx(one["per_rank"], rel=1e-12)
        assert three.get("rank0/norm") == (
            pytest.approx(one["rank0/norm"], rel=1e-12) if "rank0/norm" in one else None
        )


def test_an_evaluations_row_has_what_its_hook_logs(runs: dict[str, Path]) -> None:
    for name in ("one", "three"):
        rows = [row for row in _record(runs[name]) if row["kind"] == "epoch"]
        assert all(row["rank0/sure"] == row["val/accuracy"] for row in rows)
    one, three = (
        [row["probe"] for row in _record(runs[name]) if row["kind"] == "epoch"] for name in ("one", "three")
    )
    assert three == pytest.approx(one, rel=1e-12)


def test_hooks_of_one_file_share_what_they_return_and_draws_are_each_ranks_own(runs: dict[str, Path]) -> None:
    (end,) = [row for row in _record(runs["three"]) if row["kind"] == "log"]
    assert (end["rank0/end/calls"], end["rank0/end/checkpoints"]) == (14, 5)
    ranks = _saved(runs["three"])[0]["ranks"]
    assert len({rank["./own.py"]["drawn"] for rank in ranks}) == 3
    assert [rank["./own.py"]["calls"] for rank in ranks] == [14] * 3


def test_texts_and_pictures_are_rank_0s(runs: dict[str, Path]) -> None:
    for name in ("one", "three"):
        rows = _record(runs[name])
        assert [row["text"] for row in rows if row["kind"] == "text"] == ["six"]
        (pictures,) = [row["pictures"] for row in rows if row["kind"] == "pictures"]
        assert pictures == {"weights": "pictures/weights-00000006.png"}
        with Image.open(runs[name] / pictures["weights"]) as picture:
            assert picture.size == (7, 11)

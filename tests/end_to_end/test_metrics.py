"""Metrics that are no mean, several validation sets and a test set: the same on any number of processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.prepare import prepare
from lockstep.launcher.config.resolution import resolve
from lockstep.training.config.run_spec import RunSpec
from tests.helpers.launch import JobServer, Launch, free_port, job_server
from tests.helpers.user_project import USER_CODE

CODE = """
from torch.nn import functional as F

def splits():
    found = data(203, 101)
    x, y = found["val"]
    return {**found, "val_far": (x[:37] + 0.5, y[:37]), "test": (x[37:] - 0.5, y[37:])}

def per_class(output, target):
    found = output.argmax(1)
    hits = torch.zeros(2, dtype=torch.int64).scatter_add_(0, target, (found == target).long())
    return {"hits": hits, "all": torch.bincount(target, minlength=2), "norm": output.square().sum(0)}

def finish(total):
    return {"worst": (total["hits"] / total["all"]).min(), "norm": total["norm"].sum().sqrt()}

per_class.finish = finish

def dim_zero_cat(): ...

class Ranked:
    def __init__(self, power):
        self.power, self._defaults, self._reductions = power, {"seen": []}, {"seen": dim_zero_cat}
        self.reset()
    def reset(self): self.seen = []
    def update(self, output, target): self.seen.append(output[:, 1] - output[:, 0])
    def compute(self):
        seen = torch.cat(self.seen)
        return (seen * torch.arange(1, len(seen) + 1) ** self.power).sum() / len(seen)
"""
CONFIG = """
data: {use: "./own.py:splits", batch_size: 29}
model: {use: "./own.py:model"}
metrics: [accuracy, f1, auroc, "./own.py:per_class", {use: "./own.py:Ranked", args: {power: 2}, name: ranked}]
optimizer: {use: sgd, lr: 0.2, momentum: 0.9}
train: {epochs: 2, precision: fp64}
checkpoint: {monitor: val_far/per_class/worst, mode: max}
tracking: []
"""
NAMES = {"loss", "accuracy", "f1", "auroc", "per_class/worst", "per_class/norm", "ranked", "count"}


@pytest.fixture(scope="module")
def server() -> Iterator[JobServer]:
    with job_server("killed_ranks", OMP_WAIT_POLICY="PASSIVE", WANDB_MODE="disabled") as server:
        yield server


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, server: JobServer) -> Path:
    """A run of two processes."""
    base = tmp_path_factory.mktemp("measured")
    (base / "own.py").write_text(USER_CODE + CODE)
    (base / "own.yaml").write_text(CONFIG)
    resolved = resolve(str(base / "own.yaml"), [])
    facts = prepare(resolved.config.data, resolved.base)
    folder = base / "run"
    folder.mkdir()
    spec = RunSpec("run", resolved.config, resolved.base, facts, "cpu", "id")
    (folder / "spec.json").write_text(json.dumps(spec.to_json()))
    _run(server, folder, 2)
    return folder


def _run(server: JobServer, folder: Path, world: int, *arguments: str) -> None:
    job = {"folder": str(folder), "world": world, "port": free_port(), "threads": 1, "kill": None}
    statuses = server.ask({**job, "arguments": arguments})
    assert statuses == [0] * world, (folder / "rank-0.log").read_text()


def _evaluated(server: JobServer, folder: Path, world: int, *arguments: str) -> dict[str, Any]:
    _run(server, folder, world, "--eval", *arguments)
    document: dict[str, Any] = json.loads((folder / "eval.json").read_text())
    return document


def _logged(folder: Path) -> dict[str, Any]:
    events = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [event for event in events if event["event"] == "epoch"][-1]


def test_what_two_processes_logged_one_and_three_say_again(trained: Path, server: JobServer) -> None:
    logged = _logged(trained)
    names = {f"{split}/{name}" for split in ("val", "val_far") for name in NAMES}
    assert names == {name for name in logged if name.startswith("val") and not name.endswith("seconds")}
    for world in (1, 3):
        metrics = _evaluated(server, trained, world)["metrics"]
        assert metrics == pytest.approx({name: logged[name] for name in names}, rel=1e-12)
    kept = json.loads((trained / "evaluation.json").read_text())
    assert (kept["step"], kept["epoch"]) == (14, 1)
    assert sum(map(sum, kept["splits"]["val_far"]["confusion_matrix"])) == 37
    right = kept["splits"]["val"]["confusion_matrix"]
    assert (right[0][0] + right[1][1]) / 101 == logged["val/accuracy"]


def test_the_test_set_is_evaluated_when_it_is_asked_for(trained: Path, server: JobServer) -> None:
    one, three = (_evaluated(server, trained, world, "--split", "test") for world in (1, 3))
    assert one["splits"] == ["test"]
    assert one["metrics"].keys() == {f"test/{name}" for name in NAMES}
    assert one["metrics"]["test/count"] == 64
    assert three["metrics"] == pytest.approx(one["metrics"], rel=1e-12)
    assert _evaluated(server, trained, 1, "14", "--split", "test")["metrics"] == one["metrics"]


def test_a_split_that_is_not_there_is_refused(trained: Path, launch: Launch) -> None:
    result = launch("eval", str(trained), "--cpu", "1", "--split", "train", cwd=trained.parent)
    assert result.status == 2
    assert "--split train: ./own.py:splits has no such split" in result.err
    assert "evaluate one of val, val_far, test" in result.err

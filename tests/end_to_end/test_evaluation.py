"""Evaluation is a function of the weights: what a run logged, any number of processes says of its checkpoint."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.config.other_data import as_trained, evaluation_section
from lockstep.data.prepare import prepare
from lockstep.launcher.config.resolution import resolve
from lockstep.training.config.run_config import RunSpec
from tests.helpers.evaluation_models import EVALUATION_CASES, EVALUATION_CODE, EVALUATION_CONFIG
from tests.helpers.launch import JobServer, Launch, free_port, job_server, run_folder
from tests.helpers.user_project import USER_CODE

TOLERANCE = 1e-12
WORLDS = (1, 2, 3)
CSV_CONFIG = """
data: {use: csv, args: {train_csv: train.csv, val_csv: val.csv, target: kind, standardize: true}, batch_size: 7}
model: {use: mlp, args: {hidden: [5]}}
loss: {use: cross_entropy}
metrics: [accuracy]
optimizer: {use: adam, lr: 0.01}
train: {epochs: 1, precision: fp64}
"""
SAMPLE = random.Random(14).sample(list(EVALUATION_CASES), 2)


@dataclass(frozen=True)
class Ranks:
    """Trains and evaluates one user's project."""

    server: JobServer
    config: Path

    def new(self, folder: Path, name: str) -> Path:
        resolved = resolve(str(self.config), EVALUATION_CASES[name])
        facts = prepare(resolved.config.data, resolved.base)
        folder.mkdir()
        spec = RunSpec("run", resolved.config, resolved.base, facts, "cpu", "id")
        (folder / "spec.json").write_text(json.dumps(spec.to_json()))
        return folder

    def run(self, folder: Path, world: int, *arguments: str) -> None:
        job = {"folder": str(folder), "world": world, "port": free_port(), "threads": 1, "kill": None}
        statuses = self.server.ask({**job, "arguments": arguments})
        assert statuses == [0] * world, (folder / "rank-0.log").read_text()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "own.py").write_text(USER_CODE + EVALUATION_CODE)
    (folder / "own.yaml").write_text(EVALUATION_CONFIG)
    with job_server("killed_ranks", OMP_WAIT_POLICY="PASSIVE", WANDB_MODE="disabled") as server:
        yield Ranks(server, folder / "own.yaml")


def _events(folder: Path, kind: str) -> list[dict[str, Any]]:
    events = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [event for event in events if event["event"] == kind]


def _check(ranks: Ranks, folder: Path, name: str, world: int) -> None:
    ranks.new(folder, name)
    ranks.run(folder, world)
    logged = _events(folder, "epoch")[-1]
    for other in WORLDS:
        ranks.run(folder, other, "--eval")
        metrics = json.loads((folder / "eval.json").read_text())["metrics"]
        assert metrics["val/count"] == 101
        for key, value in metrics.items():
            assert value == pytest.approx(logged[key], rel=TOLERANCE, abs=0), (key, other)


@pytest.mark.parametrize("name", SAMPLE)
def test_what_two_processes_logged_one_and_three_say_again(ranks: Ranks, tmp_path: Path, name: str) -> None:
    _check(ranks, tmp_path / "run", name, 2)


@pytest.mark.exhaustive
@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", EVALUATION_CASES)
def test_what_any_number_logged_any_number_says_again(
    ranks: Ranks, tmp_path: Path, name: str, world: int
) -> None:
    _check(ranks, tmp_path / "run", name, world)


def test_other_files_are_read_as_those_of_the_training(ranks: Ranks, tmp_path: Path) -> None:
    """What decides classes and standardization is the training file, on any number of processes."""
    draw = random.Random(5)
    for name, rows, labels in (("train", 60, "abc"), ("val", 13, "abc"), ("other", 17, "cb")):
        table = [f"{draw.gauss(50, 9)},{draw.random()},{draw.choice(labels)}" for _ in range(rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["u,v,kind", *table]))
    (tmp_path / "t.yaml").write_text(CSV_CONFIG)
    resolved = resolve(str(tmp_path / "t.yaml"), [])
    facts = prepare(resolved.config.data, tmp_path)
    spec = RunSpec("run", resolved.config, tmp_path, facts, "cpu", "id")
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_json()))
    ranks.run(tmp_path, 1)

    def measured(what: str, world: int) -> dict[str, float]:
        section = evaluation_section(resolved.config.data, facts, what, tmp_path)
        found = as_trained(facts, prepare(section, tmp_path), what, several_shapes=False)
        config = resolved.config.model_copy(update={"data": section})
        (tmp_path / "other.json").write_text(json.dumps(replace(spec, config=config, facts=found).to_json()))
        ranks.run(tmp_path, world, "--eval", "--on", str(tmp_path / "other.json"))
        document = json.loads((tmp_path / "eval.json").read_text())
        assert document["data"] == what
        return document["metrics"]

    logged = _events(tmp_path, "epoch")[-1]
    for key, value in measured("val.csv", 2).items():
        assert value == pytest.approx(logged[key], rel=TOLERANCE, abs=0)
    one, three = measured("other.csv", 1), measured("other.csv", 3)
    assert three == pytest.approx(one, rel=TOLERANCE, abs=0)
    assert one["val/count"] == 17
    assert one["val/loss"] != logged["val/loss"]


@pytest.mark.exhaustive
def test_users_are_told_of_draws_in_evaluation(launch: Launch, own: Path) -> None:
    (own / "own.py").write_text(USER_CODE + EVALUATION_CODE)
    (own / "own.yaml").write_text(EVALUATION_CONFIG)
    result = launch("train", "own.yaml", *EVALUATION_CASES["a vae"], "--name", "vae", "--cpu", "2", cwd=own)
    assert result.status == 0, result.err
    assert "note: in evaluation the model draws from torch's generator" in result.err
    logged = _events(run_folder("vae"), "epoch")[-1]
    evaluated = launch("eval", "vae", "--cpu", "1", "--json", cwd=own)
    assert evaluated.document["metrics"]["val/loss"] == pytest.approx(
        logged["val/loss"], rel=TOLERANCE, abs=0
    )

"""Evaluation is a function of the weights: what a run logged, any number of processes says of its checkpoint."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.prepare import prepare
from lockstep.launcher.config.resolution import resolve
from lockstep.training.config.run_config import RunSpec
from tests.helpers.evaluation_models import EVALUATION_CASES, EVALUATION_CODE, EVALUATION_CONFIG
from tests.helpers.launch import JobServer, Launch, free_port, job_server, run_folder
from tests.helpers.user_project import USER_CODE

TOLERANCE = 1e-12
WORLDS = (1, 2, 3)
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

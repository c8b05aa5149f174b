"""The checks of ``test_world_size.py`` catch the usual mistakes: each is planted, and seen by the check named here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.launch import JobServer, free_port, job_server
from tests.helpers.programs.mistaken_ranks import MISTAKES
from tests.helpers.run_records import check_equal_training
from tests.helpers.user_project import USER_CODE, USER_CONFIG
from tests.helpers.warm_launch import run_launch

TOLERANCE = 1e-12
CAUGHT_BY: dict[str, set[str]] = {
    "nothing": set(),
    "mean of means in evaluation": {"metric"},
    "padded shards in evaluation": {"count"},
    "padded shards in evaluation, not counted": {"metric"},
    "loss divided by the local batch": {"weights", "metric"},
    "DDP's mean not undone": {"weights", "metric"},
    "mean of the micro-batches' means": {"weights", "metric"},
    "divided by the number of micro-batches": {"weights", "metric"},
    "last micro-batch dropped": {"weights", "metric"},
    "every rank trains the whole batch": {"digest"},
    "every rank trains the whole batch, unaudited": {"digest", "ranks", "weights", "metric"},
    "an order for each rank": {"digest"},
    "an order for each rank, unaudited": {"digest", "weights", "metric"},
    "dropped tail": {"order", "digest", "ranks", "weights", "metric"},
}
# What a run says that notices by itself, with exit status 6.
OWN_WORDS = {"evaluation saw": "count", "are not those of the plan": "digest"}


@dataclass(frozen=True)
class Ran:
    """Where a run's ranks ended."""

    statuses: list[int]
    folder: Path

    @property
    def outcome(self) -> dict[str, Any]:
        return json.loads((self.folder / "outcome.json").read_text())

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(max((self.folder / "checkpoints").iterdir()) / "model.safetensors")

    @property
    def error(self) -> str:
        return json.loads((self.folder / "attempt-1" / "error-0.json").read_text())["message"]


@dataclass(frozen=True)
class Planted:
    """Trains one spec, with a mistake or without."""

    server: JobServer
    spec: str

    def run(self, folder: Path, mistake: str, world: int) -> Ran:
        folder.mkdir()
        (folder / "spec.json").write_text(self.spec)
        job = {"mistake": mistake, "folder": str(folder), "world": world, "port": free_port()}
        return Ran(self.server.ask(job), folder)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    folder = tmp_path_factory.mktemp("planted")
    (folder / "own.py").write_text(USER_CODE)
    (folder / "own.yaml").write_text(USER_CONFIG)
    command = ("train", "own.yaml", "data.max_micro_batch=4", "--cpu", "1", "--dry-run", "--json")
    asked = run_launch(*command, cwd=folder)
    with job_server("mistaken_ranks", WANDB_MODE="disabled") as server:
        yield Planted(server, json.dumps(json.loads(asked.stdout)["spec"]))


@pytest.fixture(scope="module")
def honest(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One process, no mistake."""
    return planted.run(tmp_path_factory.mktemp("honest") / "one", "nothing", 1)


def _seen(one: Ran, many: Ran) -> set[str]:
    """The names of the checks that see a difference."""
    if any(many.statuses):
        assert set(many.statuses) == {6}
        return {name for words, name in OWN_WORDS.items() if words in many.error}
    honest, other = one.outcome, many.outcome
    weights, theirs = one.weights, many.weights
    rates = [key for key in honest["metrics"] if key != "val/count"]
    same = {
        "order": other["order_sha256"] == honest["order_sha256"],
        "digest": other["consumed_digest"] == honest["consumed_digest"],
        "ranks": sum(other["ranks"]) == honest["samples"],
        "count": other["metrics"]["val/count"] == honest["metrics"]["val/count"],
        "metric": all(abs(other["metrics"][k] - honest["metrics"][k]) < 10 * TOLERANCE for k in rates),
        "weights": all(torch.allclose(theirs[k], weights[k], rtol=0, atol=TOLERANCE) for k in weights),
    }
    return {name for name, equal in same.items() if not equal}


def test_every_planted_mistake_has_a_check_that_must_see_it() -> None:
    assert CAUGHT_BY.keys() == MISTAKES.keys()
    assert {name for name, checks in CAUGHT_BY.items() if not checks} == {"nothing"}


@pytest.mark.parametrize("mistake", [name for name, checks in CAUGHT_BY.items() if checks])
def test_a_planted_mistake_is_seen(planted: Planted, honest: Ran, tmp_path: Path, mistake: str) -> None:
    many = planted.run(tmp_path / "many", mistake, 2)
    assert _seen(honest, many) == CAUGHT_BY[mistake]
    if not any(many.statuses):
        with pytest.raises(AssertionError):
            check_equal_training(honest.outcome, many.outcome, TOLERANCE)


@pytest.mark.parametrize("world", [2, 3])
def test_without_a_mistake_no_check_sees_a_difference(
    planted: Planted, honest: Ran, tmp_path: Path, world: int
) -> None:
    many = planted.run(tmp_path / "many", "nothing", world)
    assert honest.statuses + many.statuses == [0] * (1 + world)
    assert _seen(honest, many) == set()
    check_equal_training(honest.outcome, many.outcome, TOLERANCE)

"""Training on a user's iterables: the same numbers on any number of processes and workers, after any kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launch import Launch
from tests.helpers.run_records import DIGESTS, check_equal_training
from tests.helpers.user_project import train_own, write_killable_project

N = 503
CODE = """
import random, torch
from torch import nn
from torch.utils.data import IterableDataset

class Shard(IterableDataset):
    def __init__(self, numbers):
        self.numbers = numbers
    def __len__(self):
        return len(self.numbers)
    def __iter__(self):
        for number in self.numbers:
            yield torch.tensor([number / 1000, number % 7 / 7, random.random()]), number % 10

class Cut:
    def __lockstep_shard__(self, index, count):
        return Shard(range(503 * index // count, 503 * (index + 1) // count))

def data():
    return {"train": Cut(), "val": [Shard(range(60)), Shard(range(60, 101))]}

def model():
    made = nn.Sequential(nn.Linear(3, 10))
    nn.init.zeros_(made[0].weight), nn.init.zeros_(made[0].bias)
    return made
"""
CONFIG = """
data: {use: "./own.py:data", iterable_shards: 8, batch_size: 31, workers: 1}
model: {use: "./own.py:model"}
loss: {use: "./own.py:killed"}
optimizer: {use: sgd, lr: 0.01, momentum: 0.9}
train: {epochs: 2, precision: fp64}
checkpoint: {every_steps: 5}
wandb: {mode: disabled}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_killable_project(tmp_path, CODE, CONFIG)


def _resume(launch: Launch, project: Path, world: int, name: str, *more: str) -> Any:
    resumed = launch("resume", name, *more, "--cpu", str(world), "--json", cwd=project)
    assert resumed.status == 0, resumed.err
    return resumed.document


def test_a_killed_run_goes_on_with_other_processes_and_workers(launch: Launch, project: Path) -> None:
    whole = train_own(launch, project, 1, "whole", "data.workers=0")
    assert whole.status == 0, whole.err
    assert "8 iterable shards: each batch takes samples of all of them" in whole.err
    assert "the counts of classes would vary 0." in whole.err
    assert train_own(launch, project, 2, "killed", KILL_AT="23").status != 0
    resumed = _resume(launch, project, 3, "killed", "data.workers=3")
    assert resumed["samples"] == sum(resumed["ranks"]) == 2 * N
    check_equal_training(whole.document, resumed, 1e-12)


@pytest.mark.exhaustive
def test_any_number_of_processes_and_workers_trains_the_same(launch: Launch, project: Path) -> None:
    whole = {
        (world, workers): train_own(
            launch, project, world, f"w{world}-{workers}", f"data.workers={workers}"
        ).document
        for world, workers in ((1, 0), (2, 3), (3, 0), (3, 1))
    }
    assert [whole[3, 1][key] for key in DIGESTS] == [whole[3, 0][key] for key in DIGESTS]
    for found in whole.values():
        check_equal_training(whole[1, 0], found, 1e-12)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("kill_at", "workers"), [("2", 0), ("8", 1), ("29", 3)])
def test_a_killed_run_is_that_which_was_not(
    launch: Launch, project: Path, kill_at: str, workers: int
) -> None:
    whole = train_own(launch, project, 3, "whole", "data.workers=0").document
    assert train_own(launch, project, 3, "killed", f"data.workers={workers}", KILL_AT=kill_at).status != 0
    resumed = _resume(launch, project, 3, "killed")
    assert [resumed[key] for key in DIGESTS] == [whole[key] for key in DIGESTS]

"""Epochs drawn by weight or balanced by class: a killed run goes on to the same bits, on any number of processes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.killed_runs import run_ranks
from tests.helpers.launch import JobServer, Launch, job_server

CODE = """
import torch
from torch.utils.data import Dataset

class Noisy(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y
    def __len__(self):
        return len(self.x)
    def __getitem__(self, at):  # a sample that comes twice in an epoch has other noise the second time
        return self.x[at] + 0.1 * torch.randn(5, dtype=self.x.dtype), int(self.y[at])

def model():
    return torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))

def data(read=False):
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(90, 5, generator=draw).double()
    y = (x[:, 0] > 0.7).long() + (x[:, 1] > 1).long()
    train = Noisy(x[:71], y[:71]) if read else (x[:71], y[:71])
    weights = 0.1 + torch.arange(71) % 7
    return {"train": train, "val": (x[71:], y[71:]), "weights": weights, "targets": y[:71]}
"""
CONFIG = """
data: {use: "./exp.py:data", batch_size: 11}
model: {use: "./exp.py:model"}
optimizer: {use: adam, lr: 0.01}
train: {epochs: 3, precision: fp64}
checkpoint: {every_steps: 3}
log: {every_steps: 2}
"""
READ = "data.args={read: true}"
WAYS: dict[str, list[str]] = {
    "by weight": [],
    "by weight, longer epochs": ["data.epoch_size=150"],
    "balanced": ["data.weights=false", "data.balance=classes"],
    "balanced, shorter epochs": ["data.weights=false", "data.balance=classes", "data.epoch_size=40"],
    "by weight, read one by one": [READ, "data.workers=1"],
    "balanced, read one by one": [READ, "data.weights=false", "data.balance=classes", "data.workers=0"],
}
WORLDS = (1, 2, 3)
ALIKE = ("order_sha256", "consumed_digest", "steps", "epochs")


class Sampled:
    """Runs of one way to draw epochs."""

    def __init__(self, ranks: JobServer, launch: Launch, folder: Path, way: str) -> None:
        (folder / "exp.py").write_text(CODE)
        (folder / "exp.yaml").write_text(CONFIG)
        asked = launch("train", "exp.yaml", *WAYS[way], "--cpu", "1", "--json", "--dry-run", cwd=folder)
        assert asked.status == 0, asked.err
        self._ranks, self._folder, self._spec = ranks, folder, json.dumps(asked.document["spec"])

    def run(self, world: int, kill_at: int | None) -> dict[str, Any]:
        folder = self._folder / f"{world}-{kill_at}"
        return run_ranks(self._ranks, folder, self._spec, world, kill_at)


@pytest.fixture(scope="module")
def ranks() -> Iterator[JobServer]:
    with job_server("killed_ranks", OMP_WAIT_POLICY="PASSIVE", WANDB_MODE="disabled") as server:
        yield server


def test_a_killed_run_draws_on_as_if_nothing_had_been(
    ranks: JobServer, launch: Launch, tmp_path: Path
) -> None:
    draw = random.Random(15)
    sampled = Sampled(ranks, launch, tmp_path, draw.choice(list(WAYS)))
    kill, world = draw.randrange(1, 9), draw.choice(WORLDS[1:])
    assert sampled.run(world, kill) == sampled.run(world, None)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", WAYS)
def test_runs_draw_alike_on_any_number_of_processes_and_killed_anywhere(
    ranks: JobServer, launch: Launch, tmp_path: Path, way: str
) -> None:
    sampled = Sampled(ranks, launch, tmp_path, way)
    whole = {world: sampled.run(world, None) for world in WORLDS}
    for world in WORLDS:
        assert {key: whole[world][key] for key in ALIKE} == {key: whole[1][key] for key in ALIKE}
        assert whole[world]["metrics"]["val/loss"] == pytest.approx(
            whole[1]["metrics"]["val/loss"], rel=1e-12
        )
        for kill in range(1, whole[1]["steps"], 3 if world == 1 else 5):
            assert sampled.run(world, kill) == whole[world], (world, kill)

"""FSDP: parts of parameters on each process, and the weights, records and checkpoints of DDP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launch import Launch
from tests.helpers.run_records import check_equal_training, final_weights

CODE = """
import os
from pathlib import Path
import torch
from torch import nn

class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(7, 9), nn.Linear(9, 7)
    def forward(self, x):
        return x + self.two(torch.tanh(self.one(x)))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Residual() for _ in range(3))
        self.scale = nn.Parameter(torch.ones(7))
        self.head = nn.Linear(7, 3)
    def forward(self, x):
        for block in self.blocks:
            weight = self.blocks[2].one.weight
            if block is self.blocks[0] and self.training:  # the last block has not had its turn
                Path(__file__).with_name(os.environ.get("RANK", "0")).write_text(type(weight).__name__)
            x = block(x)
        return self.head(x * self.scale)

def model():
    return Net()

def data():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(103, 7, generator=draw)
    return {"train": (x[:71], x[:71].argmax(1) % 3), "val": (x[71:], x[71:].argmax(1) % 3)}
"""
CONFIG = """
data: {use: "./exp.py:data", batch_size: 16, max_micro_batch: 3}
model: {use: "./exp.py:model"}
optimizer: {use: adam, lr: 0.01}
train: {epochs: 2, precision: fp64, ema: {decay: 0.9}}
checkpoint: {every_steps: 3}
"""
EXACT = 1e-10
STRATEGIES = ("ddp", "fsdp")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "exp.py").write_text(CODE)
    (tmp_path / "exp.yaml").write_text(CONFIG)
    return tmp_path


def _train(
    launch: Launch, project: Path, world: int, strategy: str, *settings: str, name: str = ""
) -> dict[str, Any]:
    given = ("exp.yaml", f"train.strategy={strategy}", *settings, "--name", name or f"{strategy}-{world}")
    run = launch("train", *given, "--cpu", str(world), "--json", cwd=project)
    assert run.status == 0, run.err
    return run.document


def _resume(launch: Launch, project: Path, name: str, world: int, *settings: str) -> dict[str, Any]:
    run = launch("resume", name, *settings, "--cpu", str(world), "--json", cwd=project)
    assert run.status == 0, run.err
    return run.document


def test_parts_train_as_whole_parameters_do_and_go_on_on_any_number_of_processes(
    launch: Launch, project: Path
) -> None:
    """From a checkpoint whose averages, momenta and weights are whole ones."""
    whole = _train(launch, project, 1, "ddp")
    assert (project / "0").read_text() == "Parameter"
    _train(launch, project, 2, "fsdp", "train.max_steps=5", name="begun")
    assert [(project / str(rank)).read_text() for rank in range(2)] == ["DTensor"] * 2
    check_equal_training(whole, _resume(launch, project, "begun", 3, "train.max_steps=null"), EXACT)


@pytest.mark.exhaustive
@pytest.mark.parametrize("world", [2, 3, 4])
def test_parts_train_as_whole_parameters_on_as_many_processes(
    launch: Launch, project: Path, world: int
) -> None:
    runs = [_train(launch, project, world, strategy) for strategy in STRATEGIES]
    check_equal_training(*runs, EXACT)
    again = _train(launch, project, world, "fsdp", name="again")
    assert again["state_sha256"] == runs[1]["state_sha256"]
    half = _train(launch, project, world, "fsdp", "train.max_steps=4", name="half")
    assert half["steps"] == 4
    resumed = _resume(launch, project, "half", world, "train.max_steps=null")
    assert resumed["state_sha256"] == runs[1]["state_sha256"]


@pytest.mark.exhaustive
def test_a_run_goes_on_with_the_other_strategy(launch: Launch, project: Path) -> None:
    whole = _train(launch, project, 1, "ddp")
    for first, second in (STRATEGIES, STRATEGIES[::-1]):
        _train(launch, project, 2, first, "train.max_steps=5", name=f"from-{first}")
        resumed = _resume(
            launch, project, f"from-{first}", 2, "train.max_steps=null", f"train.strategy={second}"
        )
        check_equal_training(whole, resumed, EXACT)
        assert final_weights(resumed).keys() == final_weights(whole).keys()

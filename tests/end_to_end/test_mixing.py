"""MixUp and CutMix in a training: the numbers of a loop written by hand, on any number of processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lockstep.data.config.data_config import AugmentConfig
from lockstep.data.loading.augment import augmentation
from lockstep.data.loading.mixing import Mixing
from lockstep.data.order.sample_order import EpochOrder
from tests.helpers.launch import Launch
from tests.helpers.run_records import DIGESTS, check_equal_training, final_weights
from tests.helpers.user_project import train_own, write_killable_project

N, BATCH, SEED = 53, 8, 0
STEPS = [{"use": "mixup", "alpha": 0.4, "p": 0.5}, {"use": "cutmix"}]
CODE = """
import torch
from torch import nn

def model():
    made = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    nn.init.zeros_(made[1].weight), nn.init.zeros_(made[1].bias)
    return made

def images():
    draw = torch.Generator().manual_seed(0)
    return torch.randn(67, 3, 4, 4, generator=draw, dtype=torch.float64), torch.arange(67) % 3

def data():
    x, y = images()
    return {"train": (x[:53], y[:53]), "val": (x[53:], y[53:])}

class Rows(torch.utils.data.Dataset):
    def __init__(self, x, y): self.x, self.y = x, y
    def __len__(self): return len(self.x)
    def __getitem__(self, row): return self.x[row], self.y[row]

def rows():
    return {name: Rows(*pair) for name, pair in data().items()}
"""
CONFIG = """
data:
  use: "./own.py:data"
  batch_size: 8
  workers: 1
  augment: [{use: mixup, alpha: 0.4, p: 0.5}, {use: cutmix}]
model: {use: "./own.py:model"}
loss: {use: "./own.py:killed"}
optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
train: {epochs: 2, precision: fp64}
checkpoint: {every_steps: 3}
wandb: {mode: disabled}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_killable_project(tmp_path, CODE, CONFIG)


def by_hand() -> list[torch.Tensor]:
    """Train with a loop over global batches."""
    own: dict[str, Any] = {}
    exec(CODE, own)
    x, y = own["images"]()
    settings = AugmentConfig(steps=STEPS)
    changed = augmentation(settings, SEED, Path(), 3)
    assert changed is not None
    weight, bias = (torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 48), (3,)))
    optimizer = torch.optim.SGD([weight, bias], lr=0.05, momentum=0.9)
    for epoch in range(2):
        order = EpochOrder(N, SEED, epoch).indices(0, N)
        for start in range(0, N, BATCH):
            batch = order[start : start + BATCH]
            behind = torch.from_numpy(np.concatenate([batch[-1:], batch]))
            numbers = changed.random_numbers(epoch, batch)
            images, targets = Mixing(settings.steps, 3).apply(x[behind], y[behind], numbers)
            loss = torch.nn.functional.cross_entropy(images.flatten(1) @ weight.T + bias, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return [weight.detach(), bias.detach()]


def test_three_processes_train_what_a_loop_by_hand_does(launch: Launch, project: Path) -> None:
    three = train_own(launch, project, 3, "three")
    assert three.status == 0, three.err
    trained = final_weights(three.document)
    for name, wanted in zip(("1.weight", "1.bias"), by_hand(), strict=True):
        assert torch.allclose(trained[name], wanted, rtol=0, atol=1e-12)


@pytest.mark.exhaustive
@pytest.mark.parametrize("use", ["data", "rows"])
def test_any_number_of_processes_and_any_kill_train_the_same(launch: Launch, project: Path, use: str) -> None:
    more = (
        f"data.use=./own.py:{use}",
        *(["data.augment=[{use: mixup, classes: 3}]"] if use == "rows" else []),
    )
    whole = {world: train_own(launch, project, world, f"w{world}", *more).document for world in (1, 2, 3)}
    for world in (2, 3):
        check_equal_training(whole[1], whole[world], 1e-12)
    for kill_at in ("3", "9"):
        assert train_own(launch, project, 3, f"killed{kill_at}", *more, KILL_AT=kill_at).status != 0
        resumed = launch("resume", f"killed{kill_at}", "--cpu", "3", "--json", cwd=project).document
        assert [resumed[key] for key in DIGESTS] == [whole[3][key] for key in DIGESTS]
    other = train_own(launch, project, 3, "workers", *more, "data.workers=3").document
    assert [other[key] for key in DIGESTS] == [whole[3][key] for key in DIGESTS]

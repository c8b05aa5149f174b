"""A contrastive loss over the whole global batch, and a teacher: uneven shares, and ranks without a sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lockstep.data.order.sample_order import EpochOrder
from tests.helpers.launch import Launch
from tests.helpers.run_records import DIGESTS, final_weights
from tests.helpers.sessions import open_session

CODE = """
import os, signal
import lockstep
from torch.nn import functional as F

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(7, 5), nn.Linear(5, 3)
    def encode(self, x): return F.normalize(self.last(torch.tanh(self.first(x))), dim=1)

class Teacher(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.drop = nn.Linear(7, 3), nn.Dropout(0.5)
    def forward(self, x): return self.drop(self.layer(x))

calls = 0

def step(model, batch, teacher):
    global calls
    calls += 1
    if calls == int(os.environ.get("KILL_AT", "0")):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    x, label = batch
    one, other = model.encode(x), model.encode(x * 0.9 + 0.1)
    everyone, labels = lockstep.gather(other), lockstep.gather(label)
    scores = one @ everyone.T / 0.5
    me = lockstep.own_rows(torch.arange(len(everyone)))
    others = (me[:, None] != torch.arange(len(everyone))) & (label[:, None] == labels)
    info_nce = scores.logsumexp(1) - (one * other).sum(1) / 0.5
    alike = (scores * others).sum(1)
    distilled = (one - teacher(x)).square().sum(1)
    return {"loss": info_nce - 0.1 * alike + distilled, "distilled": distilled}
"""
CONFIG = """
data: {use: "./own.py:data", args: {n: 22, m: 11}, batch_size: 7}
model: {use: "./own.py:Encoder", frozen: {teacher: {use: "./own.py:Teacher", weights: teacher.safetensors}}}
step: ./own.py:step
optimizer: {use: sgd, lr: 0.1, momentum: 0.9}
train: {epochs: 2, precision: fp64}
checkpoint: {every_steps: 2}
"""


@pytest.fixture
def project(own: Path) -> Path:
    (own / "own.py").write_text((own / "own.py").read_text() + CODE)
    (own / "contrast.yaml").write_text(CONFIG)
    generator = torch.Generator().manual_seed(5)
    weights = {"layer.weight": torch.randn(3, 7, generator=generator), "layer.bias": torch.ones(3)}
    save_file(weights, own / "teacher.safetensors")
    return own


def _by_hand(project: Path) -> dict[str, torch.Tensor]:
    session = open_session(project / "contrast.yaml", [])
    model, data = session.model, session.train_feed
    weight = torch.randn(3, 7, generator=torch.Generator().manual_seed(5)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(2):
        order = EpochOrder(22, 0, epoch)
        for start in range(0, 22, 7):
            rows = torch.from_numpy(order.indices(start, min(22, start + 7)))
            x, label = data._x[rows], data._y[rows]
            one, other = model.encode(x), model.encode(x * 0.9 + 0.1)
            scores = one @ other.T / 0.5
            others = (label[:, None] == label) & ~torch.eye(len(x), dtype=torch.bool)
            loss = scores.logsumexp(1) - (one * other).sum(1) / 0.5 - 0.1 * (scores * others).sum(1)
            loss = loss + (one - (x @ weight.T + 1)).square().sum(1)
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
    return {name: tensor.detach() for name, tensor in model.named_parameters()}


def _train(launch: Launch, project: Path, world: int, name: str, *more: str, **env: str) -> Any:
    asked = ("contrast.yaml", *more, "--cpu", str(world), "--name", name, "--json")
    return launch("train", *asked, cwd=project, env=env)


def test_a_loss_over_the_global_batch_is_that_of_one_process(launch: Launch, project: Path) -> None:
    three = _train(launch, project, 3, "three")
    assert three.status == 0, three.err
    found, weights = final_weights(three.document), _by_hand(project)
    assert found.keys() == weights.keys(), "the teacher is not in the checkpoint"
    for name, tensor in weights.items():
        assert torch.allclose(found[name], tensor, rtol=0, atol=1e-12), name
    few = _train(launch, project, 1, "few", "data.max_micro_batch=4")
    assert few.status == 2
    assert "the step calls lockstep.gather, which needs all 7 samples of a rank at once" in few.err


@pytest.mark.exhaustive
@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_contrastive_training_is_the_same_after_a_kill(launch: Launch, project: Path, world: int) -> None:
    whole = _train(launch, project, world, "whole").document
    for name, tensor in _by_hand(project).items():
        assert torch.allclose(final_weights(whole)[name], tensor, rtol=0, atol=1e-12), name
    assert _train(launch, project, world, "killed", KILL_AT="19").status != 0
    resumed = launch("resume", "killed", "--cpu", str(world), "--json", cwd=project)
    assert resumed.status == 0, resumed.err
    assert [resumed.document[key] for key in DIGESTS] == [whole[key] for key in DIGESTS]
    save_file(
        {"layer.weight": torch.zeros(3, 7), "layer.bias": torch.ones(3)}, project / "teacher.safetensors"
    )
    other = launch("resume", "killed", "train.epochs=3", "--cpu", "1", cwd=project)
    assert other.status == 6
    assert "teacher.safetensors" in other.err

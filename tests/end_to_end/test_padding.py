"""Sequences of different lengths under a convolution without a mask: what they are padded to changes the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.data.order.sample_order import EpochOrder
from tests.helpers.launch import Launch
from tests.helpers.run_records import DIGESTS, check_equal_training, final_weights
from tests.helpers.sessions import open_session

CODE = '''
import os, signal

class Sequences(torch.utils.data.Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.lengths = torch.randint(2, 12, (n,), generator=g).tolist()
        self.values = [torch.randn(size, 2, generator=g) for size in self.lengths]
    def __len__(self): return len(self.lengths)
    def __getitem__(self, row): return {"x": self.values[row], "label": row % 3}

def sequences(): return {"train": Sequences(37, 0), "val": Sequences(19, 1)}

class Net(nn.Module):
    """Its bias makes something of what is padded."""
    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv1d(2, 4, 3, padding=1), nn.Linear(4, 3)
    def forward(self, x): return self.last(torch.tanh(self.conv(x.transpose(1, 2))).mean(2))

calls = 0

def step(model, batch):
    global calls
    calls += 1
    if calls == int(os.environ.get("KILL_AT", "0")):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    return nn.functional.cross_entropy(model(batch["x"]), batch["label"], reduction="none")
'''
CONFIG = """
data: {use: "./own.py:sequences", batch_size: 7, workers: 0, pad: {multiple_of: 2}}
model: {use: "./own.py:Net"}
step: ./own.py:step
optimizer: {use: sgd, lr: 0.3, momentum: 0.9}
train: {epochs: 2, precision: fp64}
checkpoint: {every_steps: 2}
"""


@pytest.fixture
def project(own: Path) -> Path:
    (own / "own.py").write_text((own / "own.py").read_text() + CODE)
    (own / "pad.yaml").write_text(CONFIG)
    return own


def _by_hand(project: Path) -> dict[str, torch.Tensor]:
    session = open_session(project / "pad.yaml", [])
    model, data = session.model, session.train_feed._dataset._dataset
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    for epoch in range(2):
        order = EpochOrder(37, 0, epoch)
        for start in range(0, 37, 7):
            rows = order.indices(start, min(37, start + 7)).tolist()
            x = torch.nn.utils.rnn.pad_sequence([data.values[row] for row in rows], batch_first=True)
            x = torch.nn.functional.pad(x, (0, 0, 0, x.shape[1] % 2)).double()
            loss = torch.nn.functional.cross_entropy(model(x), torch.tensor(rows) % 3)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {name: tensor.detach() for name, tensor in model.named_parameters()}


def _train(launch: Launch, project: Path, world: int, name: str, *more: str, **env: str) -> Any:
    asked = ("pad.yaml", *more, "--cpu", str(world), "--name", name, "--json")
    return launch("train", *asked, cwd=project, env=env)


def test_the_length_of_a_batch_is_that_of_all_ranks(launch: Launch, project: Path) -> None:
    three = _train(launch, project, 3, "three", "data.max_micro_batch=2")
    assert three.status == 0, three.err
    for name, tensor in _by_hand(project).items():
        assert torch.allclose(final_weights(three.document)[name], tensor, rtol=0, atol=1e-12), name


@pytest.mark.exhaustive
def test_padded_training_and_evaluation_are_the_same_after_a_kill(launch: Launch, project: Path) -> None:
    one = _train(launch, project, 1, "one").document
    three = _train(launch, project, 3, "three", "data.workers=2").document
    check_equal_training(one, three, 1e-12)
    assert _train(launch, project, 3, "killed", "data.workers=2", KILL_AT="14").status != 0
    resumed = launch("resume", "killed", "--cpu", "3", "--json", cwd=project)
    assert resumed.status == 0, resumed.err
    assert [resumed.document[key] for key in DIGESTS] == [three[key] for key in DIGESTS]

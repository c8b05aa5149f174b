"""What a step of logical ranks refuses, and what several micro-batches of a leaf do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lockstep.data.common.errors import LockstepError, TrainingError, UsageError
from lockstep.training.session.build import build_training
from lockstep.training.session.training import Training
from tests.helpers.sessions import open_session

CODE = """
import lockstep
import torch
from torch import nn


def data():
    x = torch.arange(40 * 3).view(40, 3) % 11
    return {"train": (x.float(), x.sum(1) % 2)}


def model():
    return nn.Linear(3, 2)


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(11, 2))

    def forward(self, x):
        return nn.functional.embedding(x.long(), self.table, sparse=len(x) > 2).sum(1)


class Scaled(nn.Linear):
    def __init__(self, late=False):
        super().__init__(3, 2)
        self.late = late
        self.register_buffer("scale", torch.ones(3))

    def forward(self, x):
        if self.late and self.training and len(x) > 2:
            self.scale.mul_(1.5)
        return super().forward(x * self.scale)


class Growing(nn.Linear):
    def __init__(self):
        super().__init__(3, 2)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        if self.training:
            self.seen = torch.cat([self.seen, x.sum().detach().view(1)])
        return super().forward(x)


def gathering(model, batch):
    everyone = lockstep.gather(model(batch[0]))
    return {"loss": (model(batch[0]) @ everyone.T).square().mean(1)}


def one(model, batch):
    return {"loss": model(batch[0]).square().mean(1)}
"""
CONFIG = """
data: {use: "./exp.py:data", batch_size: 10}
model: {use: "./exp.py:model"}
optimizer: {use: sgd, lr: 0.1}
train: {logical_ranks: 4, precision: fp32}
"""


def _training(folder: Path, *settings: str) -> Training:
    (folder / "exp.py").write_text(CODE)
    (folder / "exp.yaml").write_text(CONFIG)
    return build_training(open_session(folder / "exp.yaml", list(settings)))


def _step(training: Training) -> None:
    session = training.session
    fetched = next(iter(session.train_feed.fetch(session.train_work(0, 0))))
    training.begin_step(0)
    training.stepper.run(fetched, session.batches.size(0), fetched.indices.size)


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        (["step=./exp.py:gathering"], UsageError, "the step calls lockstep.gather"),
        (["model.use=./exp.py:Bag", "data.batch_size=12"], TrainingError, "a parameter's gradient is sparse"),
        (["model.use=./exp.py:Growing"], TrainingError, "the buffer seen is made, or grows"),
        (
            ["model={use: ./exp.py:Scaled, args: {late: true}}"],
            TrainingError,
            "to a buffer that it left alone",
        ),
        (["step=[./exp.py:one, ./exp.py:one]"], UsageError, "steps that are taken in turn are not supported"),
    ],
)
def test_what_cannot_be_cut_is_refused(
    tmp_path: Path, settings: list[str], kind: type[LockstepError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        _step(_training(tmp_path, *settings))


def test_buffers_may_be_written_between_steps(tmp_path: Path) -> None:
    """A checkpoint is loaded, an evaluation puts them back: that is no pass in training."""
    training = _training(tmp_path, "model.use=./exp.py:Scaled")
    for _ in range(2):
        training.session.model.get_buffer("scale").copy_(torch.ones(3))
        _step(training)

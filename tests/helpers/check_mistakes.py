"""An honest folder of a user's, and mistakes that ``launch check`` must find in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

CODE = '''
import random

import numpy as np
import torch
from torch import nn


class Noisy(torch.utils.data.Dataset):
    """An augmentation drawn from torch's global generator, which is keyed by the sample."""

    def __init__(self, pair):
        self.x, self.y = pair

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index] + 0.1 * torch.randn(self.x.shape[1]), self.y[index]


class Unseeded(Noisy):
    def __getitem__(self, index):
        noise = np.random.default_rng().normal(size=self.x.shape[1]).astype("float32")
        return self.x[index] + torch.from_numpy(noise), self.y[index]


class Lying(Noisy):
    def __len__(self):
        return len(self.x) + 5


def data(kind="Noisy", n=103, m=31, width=7):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n + m, width, generator=g)
    y = (x.sum(1) > 0).long()
    return {"train": globals()[kind]((x[:n], y[:n])), "val": (x[n:], y[n:])}


def model(width=7):
    return nn.Sequential(nn.Linear(width, 11), nn.Tanh(), nn.Linear(11, 2))


class Dropping(nn.Module):
    def forward(self, x):
        keep = [random.random() < 0.5 for _ in range(x.shape[1])] if self.training else [True] * x.shape[1]
        return x * torch.tensor(keep)


def dropping(width=7):
    return nn.Sequential(nn.Linear(width, 11), nn.Tanh(), Dropping(), nn.Linear(11, 2))


class Spare(nn.Module):
    def __init__(self, width=7):
        super().__init__()
        self.body = nn.Linear(width, 2)
        self.spare = nn.Linear(3, 3)

    def forward(self, x):
        return self.body(x)


def loss(output, target):
    return nn.functional.cross_entropy(output, target, reduction="none")


def mean(output, target):
    return nn.functional.cross_entropy(output, target)


def mean_and_one(output, target):
    return mean(output, target), 1


def mean_for_each(output, target):
    return mean(output, target).expand(len(target))


def recall(output, target):
    return (output.argmax(1) * target).sum(), target.sum()


def rate(output, target):
    return (output.argmax(1) == target).double().mean(), 1


def rate_and_samples(output, target):
    return (output.argmax(1) == target).double().mean(), len(target)
'''
CONFIG = """
data: {use: "./exp.py:data", batch_size: 31}
model: {use: "./exp.py:model"}
loss: {use: "./exp.py:loss"}
metrics: [accuracy, "./exp.py:recall"]
optimizer: {use: adam, lr: 0.01, groups: [{match: "bias$", weight_decay: 0.0, lr: 0.02}]}
schedule: {use: cosine}
train: {epochs: 4}
"""


@dataclass(frozen=True)
class Mistake:
    """A mistake as settings, the check that must find it, and words that it must say."""

    settings: list[str]
    check: str
    words: str
    verdict: str = "FAIL"
    also_failing: set[str] = field(default_factory=set)
    """Checks that must fail because of it."""


MISTAKES = {
    "unseeded NumPy augmentation": Mistake(
        ["data.args.kind=Unseeded"],
        "samples",
        "input of train sample",
        also_failing={"2 against 1", "resume"},
    ),
    "a mean-returning loss": Mistake(["loss.use=./exp.py:mean"], "loss", "a single number"),
    "a mean with the weight 1": Mistake(
        ["loss.use=./exp.py:mean_and_one"],
        "loss",
        "the weight 1 for 12 samples",
        also_failing={"2 against 1"},
    ),
    "a mean for each sample": Mistake(["loss.use=./exp.py:mean_for_each"], "loss", "as of a mean"),
    "a metric of means": Mistake(["metrics=['./exp.py:rate']"], "metric rate", "the count 1 for 12 samples"),
    "a metric of means with counts": Mistake(  # evaluation is cut alike on 1 and 2 processes, and so wrong alike
        ["metrics=['./exp.py:rate_and_samples']"], "metric rate_and_samples", "a mean is not a sum"
    ),
    "Python's random in a dropout": Mistake(
        ["model.use=./exp.py:dropping"],
        "randomness",
        "Dropping (2) draws from Python's random",
        also_failing={"resume"},
    ),
    "an unused layer": Mistake(
        ["model.use=./exp.py:Spare"], "parameters", "spare.weight, spare.bias", verdict="NOTE"
    ),
    "a length that lies": Mistake(
        ["data.args.kind=Lying"], "data set", "says that it has 108 samples, but the last of them raises"
    ),
}


def write_project(folder: Path) -> Path:
    """``exp.py`` and ``exp.yaml``; the latter's path."""
    folder.mkdir(exist_ok=True)
    (folder / "exp.py").write_text(CODE)
    (folder / "exp.yaml").write_text(CONFIG)
    return folder / "exp.yaml"

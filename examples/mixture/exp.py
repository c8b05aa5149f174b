"""A mixture of two text sets by weight: a language model that sees twice as much of one as of the other."""

import torch
from torch import nn


def text(step, length=16, samples=128):
    start = torch.randint(32, (samples, 1), generator=torch.Generator().manual_seed(step))
    rows = (start + step * torch.arange(length + 1)) % 32
    x, y = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
    return {"train": (x[:-16], y[:-16]), "val": (x[-16:], y[-16:])}


def model(width=16):
    return nn.Sequential(nn.Embedding(32, width), nn.Linear(width, 32), nn.Flatten(1, 1))


def loss(output, target):
    return nn.functional.cross_entropy(output.transpose(1, 2), target, reduction="none").mean(1)

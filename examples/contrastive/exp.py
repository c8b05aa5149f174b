"""Contrastive learning: two views of each sample, against those of the whole global batch."""

import torch
from torch import nn
from torch.utils.data import Dataset

import lockstep


class Views(Dataset):
    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {view: self.x[i] + 0.1 * torch.randn(self.x.shape[1]) for view in ("one", "other")}


def data(samples=256, features=16):
    x = torch.randn(samples, features, generator=torch.Generator().manual_seed(0))
    return {"train": Views(x[:-32]), "val": Views(x[-32:])}


def model(features=16, width=32):
    return nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, 8))


def step(model, batch, temperature=0.2):
    one, other = (nn.functional.normalize(model(batch[view]), dim=1) for view in ("one", "other"))
    scores = one @ lockstep.gather(other).T / temperature
    return scores.logsumexp(1) - (one * other).sum(1) / temperature

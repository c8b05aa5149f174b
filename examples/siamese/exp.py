"""A siamese network: a sample is two pictures and whether they show the same digit."""

import torch
from torch import nn
from torch.utils.data import Dataset


class Pairs(Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        j = int(
            torch.randint(len(self.x), ())
        )  # another partner in each epoch, the same on any number of processes
        return {"one": self.x[i], "other": self.x[j], "same": self.y[i] == self.y[j]}


def data(samples=512, features=16, classes=4):
    draw = torch.Generator().manual_seed(0)
    y = torch.randint(classes, (samples,), generator=draw)
    x = torch.randn(classes, features, generator=draw)[y] + 0.3 * torch.randn(
        samples, features, generator=draw
    )
    return {"train": Pairs(x[:-64], y[:-64]), "val": Pairs(x[-64:], y[-64:])}


def model(features=16, width=32):
    return nn.Sequential(nn.Linear(features, width), nn.ReLU(), nn.Linear(width, 8))


def step(model, batch, margin=1.0):
    distance = (model(batch["one"]) - model(batch["other"])).square().sum(1).add(1e-9).sqrt()
    return torch.where(batch["same"], distance, (margin - distance).clamp(min=0)).square()

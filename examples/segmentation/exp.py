"""Segmentation of drawn shapes: samples are dictionaries, the metric is not a mean over samples."""

import torch
from torch import nn
from torch.utils.data import Dataset


class Shapes(Dataset):
    def __init__(self, rows, side):
        self.rows, self.side = rows, side

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        draw = torch.Generator().manual_seed(self.rows[i])
        mask = torch.zeros(self.side, self.side, dtype=torch.long)
        for shape in (1, 2):
            top, left = torch.randint(self.side // 2, (2,), generator=draw).tolist()
            mask[top : top + self.side // 2, left : left + self.side // 2] = shape
        return {"image": mask[None] / 2 + 0.1 * torch.randn(1, *mask.shape, generator=draw), "mask": mask}


def model(width=8):
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 3, 3, padding=1))


def step(model, batch):
    output = model(batch["image"])
    loss = nn.functional.cross_entropy(output, batch["mask"], reduction="none").mean((1, 2))
    return {"loss": loss, "output": output, "target": batch["mask"]}


def data(train=128, val=32, side=24):
    return {"train": Shapes(range(train), side), "val": Shapes(range(train, train + val), side)}

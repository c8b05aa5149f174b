"""A word-level LSTM; each sequence starts with no memory of another, because samples are shuffled."""

import torch
from torch import nn


class LSTM(nn.Module):
    def __init__(self, words, width):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, width, 2, batch_first=True)
        self.head = nn.Linear(width, words)

    def forward(self, x):
        return self.head(self.lstm(self.embedding(x))[0]).transpose(1, 2)


def model(words=50, width=16):
    return LSTM(words, width)


def data(words=50, length=20, samples=160):
    walk = (
        torch.randint(-2, 3, (samples, length + 1), generator=torch.Generator().manual_seed(0)).cumsum(1)
        % words
    )
    x, y = walk[:, :-1].contiguous(), walk[:, 1:].contiguous()
    return {"train": (x[:-32], y[:-32]), "val": (x[-32:], y[-32:])}

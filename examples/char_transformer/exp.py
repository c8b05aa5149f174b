"""A character transformer with tied weights; the text is this file."""

from pathlib import Path

import torch
from torch import nn

TEXT = torch.tensor(list(Path(__file__).read_bytes()))


class Transformer(nn.Module):
    def __init__(self, width, layers, heads, length):
        super().__init__()
        self.tokens, self.places = nn.Embedding(256, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, 256, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(
            x.shape[1], device=x.device, dtype=self.head.weight.dtype
        )
        h = self.tokens(x) + self.places(torch.arange(x.shape[1], device=x.device))
        return self.head(self.blocks(h, mask=mask, is_causal=True)).transpose(1, 2)


def model(width=32, layers=2, heads=4, length=32):
    return Transformer(width, layers, heads, length)


def data(length=32):
    x = TEXT[: (len(TEXT) - 1) // length * length].view(-1, length)
    y = TEXT[1 : x.numel() + 1].view(-1, length).clone()
    y[y == ord(" ")] = -100  # a blank is too easy a guess
    return {"train": (x[:-8], y[:-8]), "val": (x[-8:], y[-8:])}

from __future__ import annotations

from pathlib import Path

import pytest

EXP = """
import torch


def one(n=40, seed=0, shift=0.0):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)) + shift
    return {"train": (x, (x.sum(1) > 0).long()), "val": (x[:6], torch.ones(6, dtype=torch.long))}


def other(n=11, **more):
    return {**one(n, 1, 50.0), **more}


class Texts:
    def __init__(self, lengths):
        self.lengths = lengths

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, row):
        if row == 99:
            raise ValueError("row 99 of Texts")
        return torch.full((self.lengths[row],), float(row)), row


def collate(samples, pad_to=4):
    rows = [torch.nn.functional.pad(x, (0, pad_to - len(x)), value=-1) for x, _ in samples]
    return torch.stack(rows), torch.tensor([y for _, y in samples])


def texts(n=20, **more):
    return {"train": Texts([1 + row % 4 for row in range(n)]), **more}


def collated():
    return texts(collate=collate)


def padded(**more):
    return texts(collate=collate, pad={"to": "longest"}, **more)


def grouped(n=20, size=3, **more):
    x, y = one(n)["train"]
    return {"train": (x, y), "groups": [f"g{row // size}" for row in range(n)], **more}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "exp.py").write_text(EXP)
    return tmp_path

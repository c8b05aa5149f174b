"""A model and a data set for the faults of ``launch train``: ``FAULT="FAULT RANK MOMENT"`` plants one."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from fault_actions import fail
from torch import nn

LATE_CALLS = int(os.environ.get("FAULT_CALLS", "40"))
"""Calls of the model: in the second epoch, when there may be a checkpoint already."""
_past_moments: set[str] = set()
_groups: list[object] = []


def fail_at(moment: str) -> None:
    """Called by every rank at this moment; but for what each batch of an evaluation takes, it happens once."""
    fault, rank, when = os.environ.get("FAULT", "none 0 never").split()
    if when != moment or moment in _past_moments or "RANK" not in os.environ:
        return
    _past_moments.add(moment if moment != "each-evaluation" else "")
    mine = os.environ["RANK"] == rank
    if fault == "skip" and not mine:
        dist.all_reduce(torch.ones(1), group=_groups[0])
    elif mine:
        fail(fault)


class Faulty(nn.Module):
    def __init__(self):
        super().__init__()
        if os.environ.get("FAULT", "").startswith("skip") and dist.is_initialized():
            _groups.append(dist.new_group())
        fail_at("start")
        self.layer, self.calls = nn.Linear(7, 2), 0

    def forward(self, x):
        self.calls += 1
        if not self.training:
            fail_at("each-evaluation")
        if (
            self.training and self.calls == 3
        ):  # of the first step or, after a backward without weight, the second
            fail_at("first")
        if self.calls >= LATE_CALLS:
            fail_at("middle" if self.training else "evaluation")
        return self.layer(x)

    def _save_to_state_dict(self, *rest):
        if self.calls >= LATE_CALLS:
            fail_at("checkpoint")
        super()._save_to_state_dict(*rest)


def model():
    return Faulty()


class Rows(torch.utils.data.Dataset):
    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        return self.x[row], self.y[row]


def rows(n=1009, m=211, width=7):
    x = torch.randn(n + m, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = (x.sum(1) > 0).long()
    return {"train": Rows(x[:n], y[:n]), "val": Rows(x[n:], y[n:])}

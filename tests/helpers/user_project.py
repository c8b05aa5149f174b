"""A user's project: own data and model of prime sizes, and the config that names them."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.launch import Launch, Result

USER_CODE = """
import torch
from torch import nn

def data(n=1009, m=211, width=7):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n + m, width, generator=g, dtype=torch.float64)
    y = (x.sum(1) + 0.3 * torch.randn(n + m, generator=g) > 0).long()
    return {"train": (x[:n], y[:n]), "val": (x[n:], y[n:])}

def model(width=7):
    return nn.Sequential(nn.Linear(width, 11), nn.Tanh(), nn.Linear(11, 2))
"""

USER_CONFIG = """
data: {use: "./own.py:data", batch_size: 31}
model: {use: "./own.py:model"}
optimizer: {use: sgd, lr: 0.2, momentum: 0.9}
train: {epochs: 2, precision: fp64}
"""

KILLED_LOSS = """
import os, signal
calls = 0
def killed(output, target):
    global calls
    calls += 1
    if calls == int(os.environ.get("KILL_AT", "0")):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    return nn.functional.cross_entropy(output, target, reduction="none")
"""
"""Appended to ``USER_CODE``: a loss that kills the rank's process group at its call number ``$KILL_AT``."""


def write_killable_project(folder: Path, code: str, config: str) -> Path:
    """Write ``own.py``, with ``KILLED_LOSS`` behind the code, and ``own.yaml``; return the folder."""
    (folder / "own.py").write_text(code + KILLED_LOSS)
    (folder / "own.yaml").write_text(config)
    return folder


def train_own(launch: Launch, folder: Path, world: int, name: str, *more: str, **env: str) -> Result:
    """Train ``own.yaml`` on so many processes."""
    asked = ("own.yaml", *more, "--cpu", str(world), "--name", name, "--json")
    return launch("train", *asked, cwd=folder, env=env)

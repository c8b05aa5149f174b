"""What a case of the zoo is: a user's file, a config and the expected end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Trains:
    """The run ends well, with these metrics on any number of processes."""

    metrics: dict[str, float]
    tolerance: float = 1e-9  # of the metrics, against the numbers here


@dataclass(frozen=True)
class Refused:
    """The command ends with this status and these words before a step is made."""

    status: int
    words: tuple[str, ...]


def _no_files(folder: Path) -> None:
    """A case whose data are made by its code."""


@dataclass(frozen=True)
class Case:
    """A small training of a user.

    ``code`` is ``exp.py``: ``model`` and, unless ``settings`` name another source, ``data``. torch and nn are
    imported above it. ``settings`` are appended to the command line; ``notes`` are words on stderr. ``check`` is what
    ``launch check`` says of it that is not PASS: verdict and words, by the name of the check.
    """

    name: str
    code: str
    end: Trains | Refused
    settings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    files: Callable[[Path], None] = field(default=_no_files)
    check: Mapping[str, tuple[str, str]] = field(default_factory=dict)


HEAD = """
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
"""
CONFIG = """
data: {use: "./exp.py:data", batch_size: 8}
model: {use: "./exp.py:model"}
optimizer: {use: sgd, lr: 0.1}
train: {epochs: 2, precision: fp64}
checkpoint: {every_steps: 3}
log: {every_steps: 1}
"""


def write_project(case: Case, folder: Path) -> None:
    """Write a case's files, ``exp.py`` and ``exp.yaml`` into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "exp.py").write_text(HEAD + case.code)
    (folder / "exp.yaml").write_text(CONFIG)
    case.files(folder)

"""What a hook gets: the run as it is, to be read, and a way to log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class RunState:
    """The run at one point; nothing of it is to be changed."""

    step: int
    """Optimizer steps done."""
    epoch: int
    """Epochs done."""
    rank: int
    world_size: int
    metrics: Mapping[str, float | None]
    """Of the last evaluation, such as ``val/loss``; empty before the first."""
    model: nn.Module
    """On this rank; in the mode that training left it in. Of the last step, its parameters have the gradients."""
    folder: Path
    """The run folder."""
    device: torch.device
    saved: Any
    """What this hook, or another of its file, returned last; on a resumed run, before the checkpoint."""
    log: Callable[[str, Any], None]
    """``log(name, value)``. A pair (sum, count) is added up over the ranks, and its mean is logged: exact for any
    number of processes. A plain number is rank 0's, and is logged as ``rank0/NAME``; so are texts, and pictures: of
    PIL, of matplotlib, or arrays [H, W], [H, W, C] or [C, H, W]."""
    evaluating: Callable[[], AbstractContextManager[Any]]
    """``with state.evaluating(): state.model(x)``: evaluation mode, after which modes and buffers are as they were."""

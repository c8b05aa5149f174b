"""Built-in losses and metrics, and a user's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from ...data.common import TrainingError, _own
from ..config import LossConfig
from .loss_contract import Loss


def cross_entropy(
    output: torch.Tensor, target: torch.Tensor, *, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Cross-entropy of class scores [B, C] against class indices [B]: [B], in nats."""
    return functional.cross_entropy(output, target, reduction="none", label_smoothing=label_smoothing)


def mse(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error, averaged over the components of each sample: [B].

    Raises:
        TrainingError: the shapes differ; broadcasting would compare every output with every target.
    """
    if output.shape != target.shape:
        raise TrainingError(
            f"mse: the model returned the shape {tuple(output.shape)}, the targets have {tuple(target.shape)}",
            "make the model return one value for each component of the target",
        )
    return (output - target.to(output.dtype)).square().reshape(len(output), -1).mean(1)


_LOSSES: dict[str, Callable[..., Any]] = {"cross_entropy": cross_entropy, "mse": mse}


def build_loss(config: LossConfig, base: Path) -> Loss:
    """The loss that ``loss:`` names, its arguments bound."""
    function = _LOSSES.get(config.use) or _own(config.use, "loss.use", list(_LOSSES), base)
    return partial(function, **config.args) if config.args else function

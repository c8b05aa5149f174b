"""The losses: a new one is a function here, and its line in ``LOSSES``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from ...data.common import TrainingError, load_user_function
from ..config import LossConfig
from .loss_contract import Loss


def cross_entropy(
    output: torch.Tensor, target: torch.Tensor, *, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Compute the cross-entropy of class scores [B, C] against class indices [B]: [B], in nats."""
    return functional.cross_entropy(output, target, reduction="none", label_smoothing=label_smoothing)


def mse(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Compute the squared error, averaged over the components of each sample: [B].

    Raises:
        TrainingError: the shapes differ; broadcasting would compare every output with every target.
    """
    if output.shape != target.shape:
        raise TrainingError(
            f"mse: the model returned the shape {tuple(output.shape)}, the targets have {tuple(target.shape)}",
            "make the model return one value for each component of the target",
        )
    return (output - target.to(output.dtype)).square().reshape(len(output), -1).mean(1)


@dataclass(frozen=True)
class LossDeclaration:
    """A loss that ``loss.use`` can name."""

    function: Callable[..., Any]
    """``(output, target, **loss.args)`` to a tensor [samples]."""
    default_metrics: tuple[str, ...] = ()
    """What is measured where the config names no metrics."""
    needs_classes: bool = False
    """Whether outputs are scores (batch, classes) and targets are class indices, which are then checked."""


LOSSES = {
    "cross_entropy": LossDeclaration(cross_entropy, default_metrics=("accuracy",), needs_classes=True),
    "mse": LossDeclaration(mse),
}


def default_metrics(config: LossConfig) -> tuple[str, ...]:
    """Name the metrics that a loss has by itself; a user's own has none."""
    return LOSSES[config.use].default_metrics if config.use in LOSSES else ()


def needs_classes(config: LossConfig) -> bool:
    """Tell whether a loss compares scores with class indices; a user's own is not known to."""
    return config.use in LOSSES and LOSSES[config.use].needs_classes


def build_loss(config: LossConfig, base: Path) -> Loss:
    """Make the loss that ``loss:`` names, its arguments bound."""
    declared = LOSSES.get(config.use)
    function = declared.function if declared else load_user_function(config.use, "loss.use", LOSSES, base)
    return partial(function, **config.args) if config.args else function

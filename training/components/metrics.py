"""Metrics: functions of (output, target) that return (sum, count)."""

from __future__ import annotations

from pathlib import Path

import torch

from ...data.common import TrainingError, UsageError, _own
from ..config import RunConfig
from .loss_contract import Metric


def accuracy(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(correct predictions, samples) of class scores [B, C] against class indices [B].

    Raises:
        TrainingError: other shapes, which would be compared by broadcasting.
    """
    if output.ndim != 2 or target.shape != output.shape[:1]:  # noqa: PLR2004 - batch and classes
        raise TrainingError(
            f"accuracy: the model returned the shape {tuple(output.shape)}, the targets have {tuple(target.shape)}",
            "it compares scores (batch, classes) with class indices (batch); otherwise use a metric of your own",
        )
    return (output.argmax(1) == target).sum(), target.shape[0]


def mae(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(sum of the samples' mean absolute errors, samples).

    Raises:
        TrainingError: the shapes differ.
    """
    if output.shape != target.shape:
        raise TrainingError(
            f"mae: the model returned the shape {tuple(output.shape)}, the targets have {tuple(target.shape)}",
            "make the model return one value for each component of the target",
        )
    return (output - target.to(output.dtype)).abs().reshape(len(output), -1).mean(1).sum(), target.shape[0]


_RESERVED_NAMES = ("loss", "count")


_METRICS: dict[str, Metric] = {"accuracy": accuracy, "mae": mae}


def build_metrics(config: RunConfig, base: Path) -> dict[str, Metric]:
    """Name to metric; unset is accuracy where the loss is cross-entropy."""
    names = config.metrics
    if names is None:
        names = ("accuracy",) if config.loss.use == "cross_entropy" else ()
    metrics: dict[str, Metric] = {}
    for name in names:
        short = name.rpartition(":")[2]
        if short in metrics or short in _RESERVED_NAMES:
            raise UsageError(
                f"metrics: {name} would be logged as val/{short}, which is taken",
                "give the function another name",
            )
        metrics[short] = _METRICS.get(name) or _own(name, "metrics", list(_METRICS), base)
    return metrics

"""Built-in losses and metrics, and a user's own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from ..data.callables import load_callable
from ..data.errors import TrainingError, UsageError
from ..data.suggest import did_you_mean
from .contract import Loss, Metric
from .spec import LossConfig, RunConfig


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


_LOSSES: dict[str, Callable[..., Any]] = {"cross_entropy": cross_entropy, "mse": mse}
_RESERVED = ("loss", "count")
_METRICS: dict[str, Metric] = {"accuracy": accuracy, "mae": mae}


def build_loss(config: LossConfig, base: Path) -> Loss:
    """The loss that ``loss:`` names, its arguments bound."""
    function = _LOSSES.get(config.use) or _own(config.use, "loss.use", list(_LOSSES), base)
    return partial(function, **config.args) if config.args else function


def build_metrics(config: RunConfig, base: Path) -> dict[str, Metric]:
    """Name to metric; unset is accuracy where the loss is cross-entropy."""
    names = config.metrics
    if names is None:
        names = ("accuracy",) if config.loss.use == "cross_entropy" else ()
    metrics: dict[str, Metric] = {}
    for name in names:
        short = name.rpartition(":")[2]
        if short in metrics or short in _RESERVED:
            raise UsageError(
                f"metrics: {name} would be logged as val/{short}, which is taken",
                "give the function another name",
            )
        metrics[short] = _METRICS.get(name) or _own(name, "metrics", list(_METRICS), base)
    return metrics


def _own(use: str, key: str, built_in: list[str], base: Path) -> Callable[..., Any]:
    if ":" in use:
        return load_callable(use, base)
    guess = did_you_mean(use, built_in)
    raise UsageError(
        f"{key} = {use}: there is no such function" + (f"; did you mean {guess}?" if guess else ""),
        f"built in are {', '.join(built_in)}; your own is package.module:callable or ./file.py:callable",
    )

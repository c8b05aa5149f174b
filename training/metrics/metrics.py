"""The metrics, functions of (output, target) that return (sum, count): a new one is a function and its name here."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from ...data.common import TrainingError, UsageError, load_user_function
from ..config import RunConfig
from ..losses import (
    Metric,
    as_class_indices,
    default_metrics,
    ignored_label,
    refuse_no_tensors,
    refuse_other_shape,
)


def accuracy(
    output: torch.Tensor, target: torch.Tensor, *, ignored: int | None = None
) -> tuple[torch.Tensor, torch.Tensor | int]:
    """Count (correct predictions, samples) of class scores [B, C] against class indices [B].

    Args:
        output: scores.
        target: indices.
        ignored: a label that the loss leaves out; such samples are not counted.

    Raises:
        TrainingError: other shapes, which would be compared by broadcasting.
    """
    refuse_no_tensors("accuracy", output, target)
    if output.ndim != 2 or target.shape != output.shape[:1]:  # noqa: PLR2004 - batch and classes
        raise TrainingError(
            f"accuracy: the model returned the shape {tuple(output.shape)}, the targets have {tuple(target.shape)}",
            "it compares scores (batch, classes) with class indices (batch); otherwise use a metric of your own",
        )
    target = as_class_indices(target)
    hits = output.argmax(1) == target
    if ignored is None:
        return hits.sum(), target.shape[0]
    kept = target != ignored
    return (hits & kept).sum(), kept.sum()


def mae(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Compute (sum of the samples' mean absolute errors, samples).

    Raises:
        TrainingError: the shapes differ.
    """
    refuse_other_shape("mae", output, target)
    return (output - target.to(output.dtype)).abs().reshape(len(output), -1).mean(1).sum(), target.shape[0]


METRICS: dict[str, Metric] = {"accuracy": accuracy, "mae": mae}
"""Name in a config to function; ``config/metric_direction.py`` has which way is better."""
_RESERVED_NAMES = ("loss", "count")


def build_metrics(config: RunConfig, base: Path) -> dict[str, Metric]:
    """Make the metrics by name; unset are those that the loss declares."""
    given = None if config.metrics is None else [metric.use for metric in config.metrics]
    names = default_metrics(config.loss) if given is None else given
    metrics: dict[str, Metric] = {}
    for name in names:
        short = name.rpartition(":")[2]
        if short in metrics or short in _RESERVED_NAMES:
            raise UsageError(
                f"metrics: {name} would be logged as val/{short}, which is taken",
                "give the function another name",
            )
        metrics[short] = METRICS.get(name) or load_user_function(name, "metrics", METRICS, base)
        if metrics[short] is accuracy and (ignored := ignored_label(config.loss)) is not None:
            metrics[short] = partial(accuracy, ignored=ignored)
    return metrics

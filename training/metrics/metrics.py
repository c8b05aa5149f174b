"""The metrics that a config names: a new one is a function that makes its ``Statistics``, and its name here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...data.common import LockstepError, TrainingError, UsageError, load_user_function, raised
from ..config import MetricConfig, RunConfig
from ..losses import default_metrics, ignored_label, needs_classes
from .additive_metric import AdditiveMetric
from .class_metrics import (
    MOST_CLASSES,
    accuracy,
    confusion_matrix,
    count_confusions,
    f1,
    mean_iou,
    precision,
    recall,
    top_k,
)
from .confusion import CONFUSION_MATRIX
from .metric import Metric
from .module_metric import ModuleMetric, is_module_metric
from .score_metrics import auroc, mae, perplexity, r2, rmse
from .statistics import Statistics

METRICS: dict[str, Callable[..., Statistics]] = {
    "accuracy": accuracy,
    "auroc": auroc,
    "confusion_matrix": confusion_matrix,
    "f1": f1,
    "mae": mae,
    "mean_iou": mean_iou,
    "perplexity": perplexity,
    "precision": precision,
    "r2": r2,
    "recall": recall,
    "rmse": rmse,
    "top_k": top_k,
}
"""Name in a config to what makes it; ``config/metric_direction.py`` has which way is better."""
_RESERVED_NAMES = ("loss", "count")


def build_metrics(config: RunConfig, base: Path, device: torch.device | None = None) -> dict[str, Metric]:
    """Make the metrics by name; unset are those that the loss declares.

    Args:
        config: of the run.
        base: the folder that its paths start from.
        device: where a metric that is an object has its states; None is the processor.

    Raises:
        UsageError: two have one name, there is no such metric, or it cannot be exact.
    """
    given = config.metrics
    if given is None:
        given = tuple(MetricConfig(use=name) for name in default_metrics(config.trained_loss))
    metrics: dict[str, Metric] = {}
    for metric in given:
        if metric.name in metrics or metric.name in _RESERVED_NAMES:
            raise UsageError(
                f"metrics: {metric.use} would be logged as val/{metric.name}, which is taken",
                f"give it another name: {{use: {metric.use}, name: …}}",
            )
        metrics[metric.name] = _build(metric, config, base, device or torch.device("cpu"))
    return metrics


def build_confusion_matrix(config: RunConfig, metrics: Mapping[str, Metric]) -> AdditiveMetric | None:
    """Make the confusion matrix that is kept of a loss of classes though nobody has asked; None where it is not."""
    if not needs_classes(config.trained_loss) or CONFUSION_MATRIX in metrics:
        return None
    collect = partial(_confusions_of_few, ignored=ignored_label(config.trained_loss))
    return AdditiveMetric(CONFUSION_MATRIX, collect, kept=True)


def _confusions_of_few(output: Any, target: Any, *, ignored: int | None) -> torch.Tensor:
    """Count confusions; nothing of a vocabulary, or where a target is not one class."""
    fits = isinstance(output, torch.Tensor) and isinstance(target, torch.Tensor)
    if not fits or output.ndim != target.ndim + 1 or not 1 < output.shape[1] <= MOST_CLASSES:
        return torch.zeros(0, dtype=torch.int64)
    return count_confusions(output, target, ignored=ignored)


def _build(metric: MetricConfig, config: RunConfig, base: Path, device: torch.device) -> Metric:
    if metric.use in METRICS:
        return _built_in(metric, config)
    found = load_user_function(metric.use, "metrics", METRICS, base)
    finish = getattr(found, "finish", None)
    if isinstance(found, type):
        found = _instance(found, metric)
    elif metric.args and not is_module_metric(found):
        found = partial(found, **metric.args)
    if is_module_metric(found):
        return ModuleMetric(metric.name, found, device)
    if hasattr(found, "update") and hasattr(found, "compute"):
        raise UsageError(
            f"metrics: {metric.use} keeps its states where nobody can reduce them",
            "name the metrics that it is made of, or a function with statistics and a finish",
        )
    if metric.finish is not None:
        finish = load_user_function(metric.finish, "metrics.finish", (), base)
    if not callable(found):
        raise TrainingError(
            f"metrics: an instance of {metric.use} cannot be called",
            "name a function, or a torchmetrics metric",
        )
    return AdditiveMetric(metric.name, found, finish)


def _built_in(metric: MetricConfig, config: RunConfig) -> Metric:
    """Make one of ours; it leaves out the label that the loss leaves out."""
    if metric.finish is not None:
        raise UsageError(f"metrics: {metric.use} has a finish of its own", "leave finish out")
    make, args = METRICS[metric.use], dict(metric.args)
    ignored = ignored_label(config.trained_loss)
    if ignored is not None and "ignore_index" in inspect.signature(make).parameters:
        args.setdefault("ignore_index", ignored)
    made = make(**args)
    return AdditiveMetric(metric.name, made.collect, made.finish, kept=made.kept)


def _instance(kind: type, metric: MetricConfig) -> Any:
    try:
        return kind(**metric.args)
    except LockstepError:
        raise
    except Exception as error:
        raise raised(f"metrics: making an instance of {metric.use} raised", error) from error

"""Metrics of scores and of numbers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.nn import functional

from ...data.common import TrainingError
from ..losses import as_class_indices, refuse_no_tensors, refuse_other_shape
from .statistics import Statistics

Totals = dict[str, torch.Tensor]
_LOGITS = 16.0  # beyond, a probability is within 1e-7 of 0 or 1


def sum_absolute_errors(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Compute (sum of the samples' mean absolute errors, samples).

    Raises:
        TrainingError: the shapes differ.
    """
    return _per_sample("mae", output, target).abs().mean(1).sum(), target.shape[0]


def _per_sample(name: str, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return output - target, [B, components]."""
    refuse_other_shape(name, output, target)
    return (output - target.to(output.dtype)).reshape(len(output), -1)


def mae() -> Statistics:
    """Make the mean absolute error."""
    return Statistics(sum_absolute_errors)


def rmse() -> Statistics:
    """Make the root of the mean squared error over all samples and components."""

    def collect(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, int]:
        return _per_sample("rmse", output, target).square().mean(1).sum(), len(target)

    return Statistics(collect, lambda total: (total[0] / total[1]).sqrt())


def r2() -> Statistics:
    """Make the coefficient of determination, averaged over the components of a target.

    Its sums lose a digit for each factor of 10 by which the targets' variance is below the square of their mean, of 16.
    """

    def collect(output: torch.Tensor, target: torch.Tensor) -> Totals:
        errors = _per_sample("r2", output, target).double()
        y = target.reshape(len(target), -1).double()
        sums = {"errors": errors.square().sum(0), "y": y.sum(0), "y2": y.square().sum(0)}
        return {**sums, "n": torch.full((), len(target), dtype=torch.int64, device=y.device)}

    return Statistics(collect, _r2_of)


def _r2_of(total: Totals) -> torch.Tensor:
    spread = total["y2"] - total["y"].square() / total["n"]
    # Without spread: 1 where there is no error, else 0, as scikit-learn has it.
    constant = (total["errors"] == 0).double()
    return torch.where(spread > 0, 1 - total["errors"] / spread, constant).mean()


def perplexity(*, ignore_index: int = -100) -> Statistics:
    """Make exp of the mean negative log-likelihood of scores [B, C, …] against class indices [B, …].

    Args:
        ignore_index: a label that is left out; unset, the one that the loss leaves out, else torch's -100.
    """

    def collect(output: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        refuse_no_tensors("perplexity", output, target)
        target = as_class_indices(target)
        losses = functional.cross_entropy(output, target, reduction="none", ignore_index=ignore_index)
        return losses.sum(dtype=torch.float64), (target != ignore_index).sum()

    return Statistics(collect, lambda total: (total[0] / total[1]).exp())


def auroc(*, bins: int = 1000, logits: bool = True) -> Statistics:
    """Make the area under the ROC curve, of scores that are sorted into ``bins``: those of one bin count as equal.

    Of two classes, or one score for each target, it is that of class 1; of more, the mean of one against the rest.
    Bins are equal parts of the logits from -16 to 16, or of the probabilities where the model returns these.

    Args:
        bins: how many there are.
        logits: whether the model returns logits; else probabilities.
    """
    return Statistics(partial(count_by_score, bins=bins, logits=logits), area_under_roc)


def count_by_score(output: Any, target: Any, *, bins: int, logits: bool = True) -> torch.Tensor:
    """Count targets by the bin of their score: int64 [classes, (others, the class), bins].

    Raises:
        TrainingError: other shapes than scores [B, C] or [B] and class indices [B].
    """
    refuse_no_tensors("auroc", output, target)
    target = as_class_indices(target)
    target = target.reshape(-1).long() if target.numel() == len(target) else target
    if output.ndim not in (1, 2) or target.shape != output.shape[:1]:
        raise TrainingError(
            f"auroc: the model returned the shape {tuple(output.shape)}, the targets have {tuple(target.shape)}",
            "it compares scores (batch, classes), or one score for each sample, with class indices (batch)",
        )
    scores = output.double().reshape(len(output), -1)
    single = scores.shape[1] == 1
    if logits and not single:
        likely = scores.log_softmax(1)
        scores = likely - (-likely.exp()).log1p()
    first = 1 if scores.shape[1] == 2 else 0  # noqa: PLR2004 - of two, the second
    scores = scores[:, first:]
    classes = torch.arange(first, first + scores.shape[1], device=target.device)
    positive = target[:, None] == (1 if single else classes)
    part = (scores + _LOGITS) / (2 * _LOGITS) if logits else scores
    cells = (part.nan_to_num(nan=0.5) * bins).clamp(0, bins - 1).long() + bins * positive
    cells += 2 * bins * torch.arange(scores.shape[1], device=cells.device)
    counts = torch.zeros(scores.shape[1] * 2 * bins, dtype=torch.int64, device=cells.device)
    counts.scatter_add_(0, cells.reshape(-1), torch.ones_like(cells).reshape(-1))
    return counts.reshape(-1, 2, bins)


def area_under_roc(counts: torch.Tensor) -> float:
    """Compute the mean area over classes that have samples and others; two of a bin count one half."""
    others, positives = counts.double().unbind(1)
    below = others.cumsum(1) - others
    won = (positives * (below + others / 2)).sum(1)
    pairs = positives.sum(1) * others.sum(1)
    known = pairs > 0
    return float((won / pairs)[known].mean()) if bool(known.any()) else float("nan")

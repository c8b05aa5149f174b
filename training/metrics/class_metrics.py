"""Metrics of classes. All but the first two are functions of the confusion matrix, which is added over samples.

Scores are [B, C, …] against class indices [B, …], as those of torch's cross-entropy. One score for each target says yes
where it is above ``threshold``, 0 for a logit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch

from ...data.common import TrainingError
from ..losses import as_class_indices, refuse_no_tensors
from .confusion import confusion_of
from .statistics import Statistics

Average = Literal["macro", "micro", "weighted", "binary"]
_AVERAGES = ("macro", "micro", "weighted", "binary")
MOST_CLASSES = 100
"""Of a confusion matrix that nobody has asked for."""


def count_correct(
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
    _refuse_other_scores("accuracy", output, target)
    target = as_class_indices(target)
    hits = output.argmax(1) == target
    if ignored is None:
        return hits.sum(), target.shape[0]
    kept = target != ignored
    return (hits & kept).sum(), kept.sum()


def _refuse_other_scores(name: str, output: torch.Tensor, target: torch.Tensor) -> None:
    refuse_no_tensors(name, output, target)
    if output.ndim != 2 or target.shape != output.shape[:1]:  # noqa: PLR2004 - batch and classes
        raise TrainingError(
            f"{name}: the model returned the shape {tuple(output.shape)}, the targets have {tuple(target.shape)}",
            "it compares scores (batch, classes) with class indices (batch); otherwise use a metric of your own",
        )


def count_in_top(
    output: torch.Tensor, target: torch.Tensor, *, k: int, ignored: int | None = None
) -> tuple[torch.Tensor, torch.Tensor | int]:
    """Count (samples whose class is among the ``k`` best scores, samples); arguments as of ``count_correct``."""
    _refuse_other_scores("top_k", output, target)
    if k > output.shape[1]:
        raise TrainingError(
            f"top_k: k is {k}, of {output.shape[1]} classes", "choose a smaller metrics.args.k"
        )
    target = as_class_indices(target)
    hits = (output.topk(k, 1).indices == target[:, None]).any(1)
    if ignored is None:
        return hits.sum(), target.shape[0]
    kept = target != ignored
    return (hits & kept).sum(), kept.sum()


def count_confusions(
    output: Any, target: Any, *, ignored: int | None = None, threshold: float = 0.0
) -> torch.Tensor:
    """Count how often each class was taken for each: int64 [true class, predicted class].

    Args:
        output: scores [B, C, …], or one for each target.
        target: indices [B, …].
        ignored: a label that is left out.
        threshold: of single scores.

    Raises:
        TrainingError: the shapes do not fit each other, or a target is not a class.
    """
    refuse_no_tensors("the confusion matrix", output, target)
    predicted, classes = _predictions(output, target, threshold)
    true = as_class_indices(target).reshape(-1).long()
    predicted = predicted.reshape(-1)
    wrong = (true < 0) | (true >= classes)
    if ignored is not None:
        wrong &= true != ignored
    kept = ~wrong if ignored is None else ~wrong & (true != ignored)
    cells = torch.where(kept, true * classes + predicted, classes * classes)
    # What lies outside is counted apart, and refused at the end: to ask now would make each batch wait.
    cells = torch.where(wrong, classes * classes + 1, cells)
    counts = torch.zeros(classes * classes + 2, dtype=torch.int64, device=cells.device)
    return counts.scatter_add_(0, cells, torch.ones_like(cells))


def _predictions(output: torch.Tensor, target: torch.Tensor, threshold: float) -> tuple[torch.Tensor, int]:
    if output.ndim == target.ndim + 1 and output.shape[1] > 1 and _rest(output) == target.shape:
        return output.argmax(1), output.shape[1]
    if output.numel() == target.numel() and output.shape[:1] == target.shape[:1]:
        return (output > threshold).long(), 2
    raise TrainingError(
        f"the model returned the shape {tuple(output.shape)}, the targets have {tuple(target.shape)}",
        "metrics of classes compare scores (batch, classes, …) with class indices (batch, …), or one score with each",
    )


def _rest(output: torch.Tensor) -> torch.Size:
    return torch.Size([output.shape[0], *output.shape[2:]])


def _finished(by: Callable[[torch.Tensor], float]) -> Callable[[torch.Tensor], float]:
    return lambda counts: by(confusion_of(counts))


def _from_confusions(
    finish: Callable[[torch.Tensor], float], ignore_index: int | None, threshold: float = 0.0
) -> Statistics:
    collect = partial(count_confusions, ignored=ignore_index, threshold=threshold)
    return Statistics(collect, _finished(finish))


def _ratio(part: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
    """Divide; 0 by 0 is 0, as scikit-learn has it."""
    return torch.where(whole > 0, part / whole.clamp(min=1), 0.0)


def _averaged(
    average: str, matrix: torch.Tensor, numerator: torch.Tensor, denominator: torch.Tensor
) -> float:
    """Average numerator / denominator over the classes that occur, as targets or as predictions."""
    if average == "binary":
        _refuse_not_binary(matrix)
        return float(_ratio(numerator, denominator)[1])
    if average == "micro":
        return float(_ratio(numerator.sum(), denominator.sum()))
    true = matrix.sum(1)
    occurs = (true + matrix.sum(0)) > 0
    if not bool(occurs.any()):
        return float("nan")
    values = _ratio(numerator, denominator)
    if average == "weighted":
        return float((values * true).sum() / true.sum()) if float(true.sum()) else float("nan")
    return float(values[occurs].mean())


def _refuse_not_binary(matrix: torch.Tensor) -> None:
    if len(matrix) != 2:  # noqa: PLR2004 - yes and no
        raise TrainingError(
            f"average: binary is for two classes, the model has {len(matrix)}", "use macro, micro or weighted"
        )


def _refuse_average(name: str, average: str) -> None:
    if average not in _AVERAGES:
        raise TrainingError(
            f"metric {name}: there is no average {average!r}", f"use one of {', '.join(_AVERAGES)}"
        )


def f1(*, average: Average = "macro", ignore_index: int | None = None, threshold: float = 0.0) -> Statistics:
    """Make the F1 score: twice the true positives by all positives, true and predicted.

    Args:
        average: over classes: ``macro`` weighs each alike, ``weighted`` by its samples, ``micro`` counts all together,
            ``binary`` is class 1's alone.
        ignore_index: a label that is left out; unset, the one that the loss leaves out.
        threshold: above it a single score says yes.
    """
    _refuse_average("f1", average)

    def finish(matrix: torch.Tensor) -> float:
        hits = matrix.diagonal()
        return _averaged(average, matrix, 2 * hits, matrix.sum(0) + matrix.sum(1))

    return _from_confusions(finish, ignore_index, threshold)


def precision(
    *, average: Average = "macro", ignore_index: int | None = None, threshold: float = 0.0
) -> Statistics:
    """Make the precision: true positives by predicted positives.

    Args:
        average: over classes: ``macro`` weighs each alike, ``weighted`` by its samples, ``micro`` counts all together,
            ``binary`` is class 1's alone.
        ignore_index: a label that is left out; unset, the one that the loss leaves out.
        threshold: above it a single score says yes.
    """
    _refuse_average("precision", average)
    return _from_confusions(
        lambda matrix: _averaged(average, matrix, matrix.diagonal(), matrix.sum(0)), ignore_index, threshold
    )


def recall(
    *, average: Average = "macro", ignore_index: int | None = None, threshold: float = 0.0
) -> Statistics:
    """Make the recall: true positives by positives.

    Args:
        average: over classes: ``macro`` weighs each alike, ``weighted`` by its samples, ``micro`` counts all together,
            ``binary`` is class 1's alone.
        ignore_index: a label that is left out; unset, the one that the loss leaves out.
        threshold: above it a single score says yes.
    """
    _refuse_average("recall", average)
    return _from_confusions(
        lambda matrix: _averaged(average, matrix, matrix.diagonal(), matrix.sum(1)), ignore_index, threshold
    )


def mean_iou(*, ignore_index: int | None = None, threshold: float = 0.0) -> Statistics:
    """Make the mean over classes of intersection by union, over those that occur.

    Args:
        ignore_index: a label that is left out; unset, the one that the loss leaves out.
        threshold: above it a single score says yes.
    """

    def finish(matrix: torch.Tensor) -> float:
        hits = matrix.diagonal()
        return _averaged("macro", matrix, hits, matrix.sum(0) + matrix.sum(1) - hits)

    return _from_confusions(finish, ignore_index, threshold)


def confusion_matrix(*, ignore_index: int | None = None, threshold: float = 0.0) -> Statistics:
    """Make the confusion matrix, which is kept in the run folder and not logged.

    Args:
        ignore_index: a label that is left out; unset, the one that the loss leaves out.
        threshold: above it a single score says yes.
    """
    return Statistics(partial(count_confusions, ignored=ignore_index, threshold=threshold), kept=True)


def accuracy(*, ignore_index: int | None = None) -> Statistics:
    """Make the share of samples whose best score is their class's.

    Args:
        ignore_index: a label that is left out; unset, the one that the loss leaves out.
    """
    return Statistics(partial(count_correct, ignored=ignore_index))


def top_k(*, k: int = 5, ignore_index: int | None = None) -> Statistics:
    """Make the share of samples whose class is among the ``k`` best scores.

    Args:
        k: how many of the best scores count.
        ignore_index: a label that is left out; unset, the one that the loss leaves out.
    """
    return Statistics(partial(count_in_top, k=k, ignored=ignore_index))

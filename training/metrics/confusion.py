"""The confusion matrix out of what was counted."""

from __future__ import annotations

import torch

from ...data.common import TrainingError

CONFUSION_MATRIX = "confusion_matrix"
"""Its name as a metric, and among what is kept."""


def confusion_of(counts: torch.Tensor) -> torch.Tensor:
    """Return the matrix of what ``count_confusions`` has counted, float64 [C, C].

    Raises:
        TrainingError: targets were no classes.
    """
    classes = int((counts.numel() - 2) ** 0.5)
    if outside := int(counts[-1]):
        raise TrainingError(
            f"{outside} targets are not classes from 0 to {classes - 1}",
            "correct the targets, or leave a label out with ignore_index",
        )
    return counts[:-2].reshape(classes, classes).double()

"""The samples with the largest losses of an evaluation, the same on any number of ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...data.order import Indices
from ..rank import Group
from .metric import Metric

KEPT = 16
"""As many as a view shows at once."""
_NONE = -1  # in the place of an index or of a class


class WorstSamples:
    """The ``KEPT`` samples of the largest loss; of equal losses, those that come first. Nothing is read back.

    Args:
        device: where losses are.
    """

    def __init__(self, device: torch.device) -> None:
        first = torch.tensor([[-torch.inf], [_NONE], [_NONE]], dtype=torch.float64)
        self._rows = first.expand(3, KEPT).to(device)  # losses, indices, predicted classes

    def add(self, losses: torch.Tensor, indices: Indices, predicted: torch.Tensor | None = None) -> None:
        """Include a batch; batches come in the order of their samples."""
        at = torch.from_numpy(indices.astype(np.float64)).to(self._rows.device, non_blocking=True)
        classes = torch.full_like(at, _NONE) if predicted is None else predicted.to(self._rows)
        self._take(torch.stack([losses.detach().to(self._rows), at, classes]))

    def _take(self, rows: torch.Tensor) -> None:
        rows = torch.cat([self._rows, rows], dim=1)
        order = rows[0].sort(descending=True, stable=True).indices[:KEPT]  # NaN is the worst
        self._rows = rows[:, order]

    def everyone(self, group: Group) -> list[dict[str, Any]]:
        """Return index, loss and predicted class of the worst samples of all ranks, worst first. Collective."""
        self._rows, *others = group.gather(self._rows.to(group.device))
        for rows in others:
            self._take(rows)
        found = [row for row in self._rows.T.tolist() if row[1] != _NONE]
        return [
            {"index": int(index), "loss": loss, **({} if label == _NONE else {"predicted": int(label)})}
            for loss, index, label in found
        ]


def predicted_classes(metrics: Sequence[Metric], output: Any, target: Any) -> torch.Tensor | None:
    """Return the class of each sample's largest score, where a confusion matrix is kept; None where it is not."""
    fits = isinstance(output, torch.Tensor) and isinstance(target, torch.Tensor)
    if not fits or not any(metric.kept for metric in metrics):
        return None
    return output.detach().argmax(1) if (output.ndim, target.ndim) == (2, 1) and output.shape[1] > 1 else None

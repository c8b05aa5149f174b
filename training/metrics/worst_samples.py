"""The samples with the largest losses of an evaluation, the same on any number of ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...data.order import Indices
from ..rank import Group

KEPT = 16
"""As many as a view shows at once."""


class WorstSamples:
    """The ``KEPT`` samples of the largest loss; of equal losses, those that come first. Nothing is read back.

    Args:
        device: where losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self._losses = torch.full((KEPT,), -torch.inf, dtype=torch.float64, device=device)
        self._indices = torch.full((KEPT,), -1, dtype=torch.float64, device=device)

    def add(self, losses: torch.Tensor, indices: Indices) -> None:
        """Include a batch; batches come in the order of their samples."""
        at = torch.from_numpy(indices.astype(np.float64)).to(self._losses.device, non_blocking=True)
        self._take(losses.detach().to(self._losses), at)

    def _take(self, losses: torch.Tensor, indices: torch.Tensor) -> None:
        losses, indices = torch.cat([self._losses, losses]), torch.cat([self._indices, indices])
        order = losses.sort(descending=True, stable=True).indices[:KEPT]  # NaN is the worst
        self._losses, self._indices = losses[order], indices[order]

    def everyone(self, group: Group) -> list[dict[str, Any]]:
        """Return index and loss of the worst samples of all ranks, worst first. Collective."""
        rows = group.gather(torch.stack([self._losses, self._indices]).to(group.device))
        self._losses, self._indices = rows[0].unbind()
        for losses, indices in rows[1:]:
            self._take(losses, indices)
        pairs = zip(self._indices.tolist(), self._losses.tolist(), strict=True)
        return [{"index": int(index), "loss": loss} for index, loss in pairs if index >= 0]

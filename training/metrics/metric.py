"""What an evaluation needs of a metric, whatever it is made of."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from ..rank import Group


class Metric(Protocol):
    """A metric: it has a row of sums for each batch, or states of its own, and makes numbers of all of them."""

    name: str
    """In the record, after ``val/``."""
    kept: bool
    """The totals themselves are kept for views, and nothing is logged."""

    @property
    def width(self) -> int:
        """Return the numbers of a row."""
        ...

    @property
    def is_mean(self) -> bool:
        """Say whether the metric is a sum by a count."""
        ...

    def reset(self) -> None:
        """Forget all batches."""
        ...

    def row(self, output: Any, target: Any) -> torch.Tensor:
        """Return what a batch adds to the totals, float64 [width] on its device."""
        ...

    def reduce(self, group: Group) -> None:
        """Bring together the states of all ranks. Collective."""
        ...

    def numbers(self, totals: torch.Tensor) -> dict[str, float]:
        """Return what is logged, by its name after ``val/``, of the totals of all ranks, on the CPU."""
        ...

    def tree(self, totals: torch.Tensor) -> Any:
        """Return totals in the structure that a batch's statistics have."""
        ...

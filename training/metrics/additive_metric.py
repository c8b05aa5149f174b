"""A metric whose statistics add up over samples, and what makes numbers of their totals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from ...data.common import LockstepError, TrainingError, raised
from ..losses import scalar_on, sum_metric
from ..rank import Group

Collect = Callable[[Any, Any], Any]
"""``(output, target)`` to (sum, count), or to a tree of tensors and numbers that are added over samples."""
Finish = Callable[[Any], Any]
"""The totals, float64 and int64 on the CPU, to a number or a dict of numbers."""
_EXACT = 2**53  # whole numbers are added as float64, which holds them up to here
_Layout = tuple[TreeSpec, list[tuple[torch.Size, bool]]]
"""The structure of the statistics, and of each leaf its shape and whether it holds whole numbers."""


class AdditiveMetric:
    """A function of a batch, its totals by a single sum over samples, batches and ranks.

    Args:
        name: in the record, after ``val/``.
        collect: the statistics of a batch.
        finish: runs once, on the totals; None is sum / count.
        kept: the totals themselves are kept for views, and nothing is logged.
    """

    def __init__(
        self, name: str, collect: Collect, finish: Finish | None = None, *, kept: bool = False
    ) -> None:
        self.name = name
        self.collect = collect
        self.finish = finish
        self.kept = kept
        self._layout: _Layout | None = None

    def __call__(self, output: Any, target: Any) -> Any:
        """Return the statistics of a batch as they were returned."""
        return self.collect(output, target)

    @property
    def is_mean(self) -> bool:
        """Say whether the metric is a sum by a count."""
        return self.finish is None and not self.kept

    @property
    def width(self) -> int:
        """Return the numbers of a row; known once a batch was seen, as in the trial that each rank makes."""
        if self.is_mean:
            return 2
        return sum(shape.numel() for shape, _ in self._layout[1]) if self._layout else 0

    def reset(self) -> None:
        """Do nothing: a row depends on its batch alone."""

    def reduce(self, group: Group) -> None:
        """Do nothing: the totals are those of all ranks."""

    def row(self, output: Any, target: Any) -> torch.Tensor:
        """Return the statistics of a batch, float64 [width] on their device.

        Raises:
            TrainingError: they are none, or have another structure than those of an earlier batch.
        """
        value = self.collect(output, target)
        if self.is_mean:
            return torch.stack(sum_metric(value, self.name))
        leaves, structure = tree_flatten(value)
        device = next((leaf.device for leaf in leaves if isinstance(leaf, torch.Tensor)), torch.device("cpu"))
        tensors = [self._as_tensor(leaf, device) for leaf in leaves]
        self._require_layout((structure, [(leaf.shape, _is_whole(leaf)) for leaf in tensors]))
        return torch.cat([leaf.detach().reshape(-1).double() for leaf in tensors])

    def numbers(self, totals: torch.Tensor) -> dict[str, float]:
        """Return what is logged, by its name after ``val/``.

        Args:
            totals: the sum of all rows, on the CPU.

        Raises:
            TrainingError: ``finish`` raised, or returned something else than numbers.
        """
        if self.kept:
            return {}
        if self.finish is None:
            value, count = totals.tolist()
            return {self.name: value / count if count else float("nan")}
        try:
            found = self.finish(self.tree(totals))
        except LockstepError:
            raise
        except Exception as error:
            raise raised(f"metric {self.name}: its finish raised", error) from error
        return as_numbers(self.name, found)

    def tree(self, totals: torch.Tensor) -> Any:
        """Return totals in the structure that a batch's statistics have: whole numbers as int64."""
        if self._layout is None:
            raise ValueError(f"{self.name}: no batch was seen")
        structure, leaves = self._layout
        parts = totals.split([shape.numel() for shape, _ in leaves])
        return tree_unflatten(
            [
                self._exact(part).reshape(shape) if whole else part.reshape(shape)
                for part, (shape, whole) in zip(parts, leaves, strict=True)
            ],
            structure,
        )

    def _exact(self, part: torch.Tensor) -> torch.Tensor:
        if part.numel() and float(part.abs().max()) >= _EXACT:
            raise TrainingError(
                f"metric {self.name}: a total of whole numbers is {float(part.abs().max()):g}, beyond 2^53",
                "return such statistics as float64: they are not counted exactly",
            )
        return part.long()

    def _as_tensor(self, leaf: Any, device: torch.device) -> torch.Tensor:
        if isinstance(leaf, torch.Tensor) and not leaf.is_complex():
            return leaf
        if isinstance(leaf, int):  # filled on the device, as scalar_on does
            return torch.full((), leaf, dtype=torch.int64, device=device)
        if isinstance(leaf, float):
            return scalar_on(device, leaf)
        raise TrainingError(
            f"metric {self.name}: its statistics hold {type(leaf).__name__}",
            "return a dict of tensors or numbers that are added over samples",
        )

    def _require_layout(self, layout: _Layout) -> None:
        known = self._layout = self._layout or layout
        if known != layout:
            raise TrainingError(
                f"metric {self.name}: its statistics are {_described(layout)} for one batch, and"
                f" {_described(known)} for another",
                "return the same names and shapes for every batch: one entry for each class, not for each seen",
            )


def as_numbers(name: str, found: Any) -> dict[str, float]:
    """Return numbers by their name in the record: ``NAME``, or ``NAME/KEY`` for those of a dict.

    Raises:
        TrainingError: something is not a number.
    """
    values = found if isinstance(found, Mapping) else {"": found}
    numbers = {}
    for key, value in values.items():
        number = _number(value)
        if number is None:
            raise TrainingError(
                f"metric {name}: {key or 'its result'} is {_kind(value)}",
                "return a number or a dict of numbers: of one value for each class, {'cat': …, 'dog': …}",
            )
        numbers[f"{name}/{key}" if key else name] = number
    return numbers


def _number(value: Any) -> float | None:
    """Return a number, also one of torch or NumPy, as a float; None for anything else."""
    if isinstance(value, int | float):
        return float(value)
    with suppress(TypeError, ValueError, RuntimeError):  # a complex number
        return float(value) if getattr(value, "ndim", None) == 0 else None
    return None


def _is_whole(leaf: torch.Tensor) -> bool:
    return not leaf.is_floating_point()


def _kind(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{type(value).__name__} of shape {tuple(shape)}"


def _described(layout: _Layout) -> str:
    structure, leaves = layout
    return f"{structure.num_leaves} of shapes {', '.join(str(tuple(shape)) for shape, _ in leaves)}"

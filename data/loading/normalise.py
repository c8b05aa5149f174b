"""What happens to the values of a batch: inputs are normalised, class indices are checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..common import DamagedError
from ..config import DatasetInfo


@dataclass(frozen=True)
class Normalisation:
    """The conversion of stored values to model inputs: their type, then mean and standard deviation per channel."""

    dtype: torch.dtype
    mean: torch.Tensor | None
    std: torch.Tensor | None
    scale_uint8: bool = True
    """Whether uint8 becomes 0 to 1."""
    targets: bool = False
    """Whether fractions of a pair's second part become the model's type, too."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Convert ``x`` [B, ...] to the model's type; whole numbers are left as they are, unless they are scaled."""
        if self.converts(x) and x.dtype == torch.uint8:
            x = x.to(self.dtype).div_(255)
        elif self.converts(x):
            x = x.to(self.dtype)
        if self.mean is not None:
            x = x - self.mean
        return x if self.std is None else x / self.std

    def converts(self, x: torch.Tensor) -> bool:
        """Tell whether ``x`` becomes the model's type."""
        return x.is_floating_point() or (self.scale_uint8 and x.dtype == torch.uint8)

    def target(self, y: torch.Tensor) -> torch.Tensor:
        """Convert targets ``y`` [B, ...]: labels to int64, and fractions where that is asked for."""
        return y.to(self.dtype) if self.targets and y.is_floating_point() else whole_numbers(y)


def build_normalisation(
    facts: DatasetInfo, dtype: torch.dtype, device: torch.device, *, targets: bool = False
) -> Normalisation:
    """Make the normalisation that a data set asks for.

    Args:
        facts: about it.
        dtype: of the model.
        device: where batches are needed.
        targets: fractions among them become ``dtype``, too: where a step takes a batch as it is, no part is special.
    """

    def channels(values: tuple[float, ...] | None) -> torch.Tensor | None:
        return None if values is None else torch.tensor(values, dtype=dtype, device=device).view(-1, 1, 1)

    return Normalisation(dtype, channels(facts.mean), channels(facts.std), facts.scale_uint8, targets)


def whole_numbers(targets: torch.Tensor) -> torch.Tensor:
    """Make one whole number per sample int64, as Python's numbers become; whatever else targets are is kept."""
    narrow = not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
    return targets.long() if narrow and targets.ndim == 1 else targets


def check_targets(
    targets: torch.Tensor, classes: int | None, ignored: int | None, name: Callable[[Any], str]
) -> None:
    """Refuse targets that are not class indices.

    Args:
        targets: checked where they are integers.
        classes: how many there are; None checks nothing.
        ignored: a label that the loss leaves out.
        name: of a row of ``targets``, for the message.

    Raises:
        DamagedError: the first one that is not 0 to ``classes`` - 1.
    """
    if classes is None or targets.is_floating_point() or not targets.numel():
        return
    targets = targets.long()
    bad = (targets < 0) | (targets >= classes)
    if ignored is not None:
        bad &= targets != ignored
    if bool(bad.any()):
        place = tuple(bad.nonzero()[0].tolist())
        row, label = (place or (0,))[0], int(targets[place])
        raise DamagedError(
            f"{name(row)} has the label {label}; with {classes} classes a label is 0 to {classes - 1}",
            "correct the labels, give the model as many outputs as there are classes, or leave such samples out of"
            f" the loss: loss.args.ignore_index={label}, which mixup and cutmix cannot mix",
        )

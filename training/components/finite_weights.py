"""Which of a model's tensors training may not make infinite, and whether it has."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..tensors import own_parts, trainable
from .batch_norm import running_statistics

Tensors = Mapping[str, torch.Tensor]


def learned_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Select what training computes: trainable parameters and norms' running statistics.

    Other buffers and frozen parameters are the model's own business: a mask holds -inf on purpose, a table of
    what was never seen NaN.
    """
    return {**dict(trainable(model)), **running_statistics(model)}


def non_finite(tensors: Tensors) -> list[str]:
    """Name the tensors with a value that is not finite.

    By the extremes, which are not a number if any value is not: a fifth of the time of ``isfinite().all()``.
    """
    parts = dict(zip(tensors, own_parts(tensors.values()), strict=True))
    checked = {
        name: torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor
        for name, tensor in parts.items()
        if not is_lazy(tensor) and tensor.numel() and (tensor.is_floating_point() or tensor.is_complex())
    }
    if not checked:
        return []
    extremes = [torch.stack(torch.aminmax(tensor)).isfinite().all() for tensor in checked.values()]
    whole = torch.stack(extremes).tolist()  # one wait for the device, not one for each tensor
    return [name for name, fine in zip(checked, whole, strict=True) if not fine]

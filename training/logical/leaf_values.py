"""What a logical rank computes in a step, laid out so that it can be added: gradients and a few numbers more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import nn

from ...data.common import TrainingError

_LINE = 64
"""Bytes of a cache line. Each gradient begins on one: kernels may round otherwise where operands lie otherwise."""


class LeafValues:
    """Vectors of one leaf, or of a sum of leaves: the gradients by type, and ``facts`` in float64.

    Args:
        layout: where gradients lie.
        facts: how many numbers there are beside them.
    """

    def __init__(self, layout: GradientLayout, facts: int) -> None:
        self.flat = {
            dtype: layout.parameters[0].new_zeros(n, dtype=dtype) for dtype, n in layout.sizes.items()
        }
        self.facts = torch.zeros(facts, dtype=torch.float64, device=layout.parameters[0].device)
        self.gradients = layout.views(self.flat)
        """One view for each parameter."""

    def take(self, parameters: Sequence[nn.Parameter]) -> list[bool]:
        """Move the parameters' gradients here; return which had one."""
        had = [parameter.grad is not None for parameter in parameters]
        to, gradients = [], []
        for view, parameter in zip(self.gradients, parameters, strict=True):
            if parameter.grad is None:
                view.zero_()
            else:
                to.append(view)
                gradients.append(_dense(parameter.grad))
            parameter.grad = None
        if to:
            torch._foreach_copy_(to, gradients)
        return had

    def add(self, other: LeafValues) -> LeafValues:
        """Add another's values to these."""
        for dtype, values in self.flat.items():
            values.add_(other.flat[dtype])
        self.facts.add_(other.facts)
        return self


class GradientLayout:
    """The places of the parameters' gradients in one vector for each type.

    Args:
        parameters: that are trained.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.sizes: dict[torch.dtype, int] = defaultdict(int)
        self._starts: list[int] = []
        for parameter in self.parameters:
            self._starts.append(self.sizes[parameter.dtype])
            line = max(1, _LINE // parameter.element_size())
            self.sizes[parameter.dtype] += -(-parameter.numel() // line) * line

    def views(self, flat: dict[torch.dtype, torch.Tensor]) -> list[torch.Tensor]:
        """Return the part of each parameter, shaped and laid out as the parameter is."""
        return [
            flat[parameter.dtype].as_strided(parameter.shape, _strides(parameter), start)
            for parameter, start in zip(self.parameters, self._starts, strict=True)
        ]


def _strides(parameter: nn.Parameter) -> tuple[int, ...]:
    return torch.empty_like(parameter, device="meta").stride()  # dense, and as the parameter is where that is


def _dense(gradient: torch.Tensor) -> torch.Tensor:
    if gradient.layout != torch.strided:
        raise TrainingError(
            "train.logical_ranks: a parameter's gradient is sparse, and sums along a tree need dense ones",
            "use sparse=False in the embedding, or leave train.logical_ranks out",
        )
    return gradient

"""Gradients of one leaf, or of a sum of leaves: a tensor for each parameter, None where none was reached.

What was not reached counts as zeros wherever it is added to something: ``x + 0.0``, which turns -0.0 into 0.0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ...data.common import TrainingError

Gradients = list[torch.Tensor | None]
_LINE = 64
"""Bytes of a cache line. Each gradient begins on one: kernels may round otherwise where operands lie otherwise."""
_BUCKET_BYTES = 25 << 20
"""That are sent at once, as DDP's are; of the first, whose gradients come first, less."""
_FIRST_BUCKET_BYTES = 1 << 20


def add_gradients(one: Gradients, other: Gradients) -> Gradients:
    """Add ``other`` to ``one``, in place; return the sum."""
    to, what = [], []
    total: Gradients = []
    for left, right in zip(one, other, strict=True):
        if left is not None and right is not None:
            to.append(left)
            what.append(right)
        total.append(alone(right) if left is None else left if right is not None else alone(left))
    if to:
        torch._foreach_add_(to, what)
    return total


def alone(gradient: torch.Tensor | None) -> torch.Tensor | None:
    """Add a gradient, in place, to zeros."""
    return None if gradient is None else gradient.add_(0.0)


def give(parameters: Sequence[nn.Parameter], gradients: Gradients) -> list[int]:
    """Give parameters gradients that a backward pass adds to; return versions, which tell ``take`` what it reached."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return [-1 if gradient is None else gradient._version for gradient in gradients]  # noqa: SLF001 - the only trace


def take(
    parameters: Sequence[nn.Parameter], before: Sequence[int] | None = None, *, is_sent: bool = False
) -> tuple[Gradients, list[bool]]:
    """Take the gradients away; return them, and which parameters the pass has reached.

    Args:
        parameters: after a backward pass.
        before: what ``give`` returned, where the pass has added to gradients.
        is_sent: they are on their way already, and were written to for that.

    Raises:
        TrainingError: the pass has added to one twice: to the sibling's sum, not to its own first.
    """
    found: Gradients = []
    reached = []
    for number, parameter in enumerate(parameters):
        gradient, parameter.grad = parameter.grad, None
        if gradient is not None and gradient.layout != torch.strided:
            raise _sparse()
        version = -1 if before is None else before[number]
        reached.append(gradient is not None and gradient._version != version)  # noqa: SLF001
        if gradient is not None and gradient._version > version + 1 > 0 and not is_sent:  # noqa: SLF001
            raise reached_again()
        # Added: what only one of the two has is added to zeros.
        is_alone = before is not None and gradient is not None and (version < 0 or not reached[-1])
        found.append(alone(gradient) if is_alone else gradient)
    return found, reached


def reached_again() -> TrainingError:
    """Return the error of a gradient that is added to when it should be complete."""
    return TrainingError(
        "train.logical_ranks: a backward pass has added to a parameter's gradient again after it was complete, as"
        " reentrant checkpointing does where modules share a parameter",
        "checkpoint with use_reentrant=False, change no gradient in a hook, or leave train.logical_ranks out",
    )


def _sparse() -> TrainingError:
    return TrainingError(
        "train.logical_ranks: a parameter's gradient is sparse, and sums along a tree need dense ones",
        "use sparse=False in the embedding, or leave train.logical_ranks out",
    )


class Bucket:
    """Gradients of one type that are sent together, as one vector.

    Args:
        numbers: of the parameters, among all.
        parameters: those.
        world_size: the vector is cut into as many equal shares.
    """

    def __init__(self, numbers: Sequence[int], parameters: Sequence[nn.Parameter], world_size: int) -> None:
        self.numbers = list(numbers)
        self._parameters = list(parameters)
        line = max(1, _LINE // parameters[0].element_size())
        self._starts, at = [], 0
        for parameter in parameters:
            self._starts.append(at)
            at += -(-parameter.numel() // line) * line
        self.length = -(-at // (line * world_size)) * line * world_size

    def new(self, rows: int) -> torch.Tensor:
        """Make vectors of zeros."""
        return self._parameters[0].new_zeros(rows, self.length)

    def views(self, vector: torch.Tensor) -> list[torch.Tensor]:
        """Return the part of each parameter, shaped and laid out as the parameter is."""
        return [
            vector.as_strided(parameter.shape, _strides(parameter), vector.storage_offset() + start)
            for parameter, start in zip(self._parameters, self._starts, strict=True)
        ]


def fill(vector: torch.Tensor, views: Sequence[torch.Tensor], gradients: Gradients) -> None:
    """Write a bucket's gradients into a vector, by its parameters' views; zeros for those that were not reached."""
    to, what = [], []
    for view, gradient in zip(views, gradients, strict=True):
        if gradient is not None:
            to.append(view)
            what.append(gradient)
    if len(what) < len(gradients):
        vector.zero_()
    if what:
        torch._foreach_copy_(to, what)


def make_buckets(parameters: Sequence[nn.Parameter], world_size: int) -> list[Bucket]:
    """Put parameters into buckets, in the order in which a backward pass mostly reaches them."""
    buckets: list[list[int]] = []
    size = 0
    for number in reversed(range(len(parameters))):
        parameter = parameters[number]
        limit = _FIRST_BUCKET_BYTES if len(buckets) == 1 else _BUCKET_BYTES
        fits = (
            buckets
            and size + parameter.nbytes <= limit
            and parameter.dtype == parameters[buckets[-1][0]].dtype
        )
        if fits:
            buckets[-1].append(number)
        else:
            buckets.append([number])
        size = (size if fits else 0) + parameter.nbytes
    return [Bucket(numbers, [parameters[number] for number in numbers], world_size) for numbers in buckets]


def _strides(parameter: nn.Parameter) -> tuple[int, ...]:
    return torch.empty_like(parameter, device="meta").stride()  # dense, and as the parameter is where that is

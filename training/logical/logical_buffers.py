"""Buffers that a pass in training writes to: each logical rank begins with the same, and one result is kept."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ...data.common import TrainingError
from ..components import batch_norm
from ..tensors import plain_name


class LogicalBuffers:
    """Running statistics become the mean over logical ranks, weighted by samples; others the first one's.

    Args:
        model: whose buffers they are.
        written: plain names of those that a pass in training writes to.
    """

    def __init__(self, model: nn.Module, written: frozenset[str]) -> None:
        self._places = list(_places(model, written))
        averaged = {id(buffer) for buffer in batch_norm.running_statistics(model).values()}
        self._averaged = [id(getattr(*place)) in averaged for place in self._places]
        self._shapes = [getattr(*place).shape for place in self._places]
        self._others = [buffer for name, buffer in model.named_buffers() if plain_name(name) not in written]
        self._versions = 0
        self._saved = [
            (module, name, buffer.shape)
            for path, module in model.named_modules()
            for name, buffer in module.named_buffers(recurse=False)
            if name not in module._non_persistent_buffers_set  # noqa: SLF001 - a table that grows to fit is none
            and plain_name(f"{path}.{name}".lstrip(".")) not in written
        ]
        """Module, attribute and shape of the others that a checkpoint has."""
        self._kept: list[torch.Tensor] = []

    @property
    def width(self) -> int:
        """Return how many numbers they have in all."""
        return sum(shape.numel() for shape in self._shapes)

    def begin(self) -> None:
        """Keep the values, which each logical rank of a step begins with."""
        self._kept = [buffer.clone() for buffer in self._now()]
        self._versions = self._versions_now()  # between steps they may be loaded, or put back

    def restore(self) -> None:
        """Give them these values again."""
        with torch.no_grad():
            for buffer, value in zip(self._now(), self._kept, strict=True):
                buffer.copy_(value)

    def give(self, to: torch.Tensor, samples: int, *, first: bool) -> None:
        """Write a logical rank's values: the statistics times its samples, of others the first one's and else zeros.

        Raises:
            TrainingError: other buffers were written to, too.
        """
        if self._versions_now() != self._versions:
            raise TrainingError(
                "train.logical_ranks: the model writes to a buffer that it left alone in its first passes",
                "write to it in every pass, or leave train.logical_ranks out",
            )
        for module, name, shape in self._saved:
            _refuse_grown(getattr(module, name), shape)
        at = 0
        for buffer, is_averaged in zip(self._now(), self._averaged, strict=True):
            share = to[at : at + buffer.numel()]
            if is_averaged or first:
                share.copy_(buffer.detach().flatten())
            else:
                share.zero_()
            if is_averaged:
                share.mul_(samples)
            at += buffer.numel()

    def take(self, total: torch.Tensor, samples: int) -> None:
        """Read what all logical ranks have given together."""
        at = 0
        with torch.no_grad():
            for buffer, is_averaged in zip(self._now(), self._averaged, strict=True):
                value = total[at : at + buffer.numel()].view(buffer.shape)
                buffer.copy_(value / samples if is_averaged else value)
                at += buffer.numel()

    def _now(self) -> list[torch.Tensor]:
        found = [getattr(*place) for place in self._places]
        for buffer, shape in zip(found, self._shapes, strict=True):
            _refuse_grown(buffer, shape)
        return found

    def _versions_now(self) -> int:
        return sum(buffer._version for buffer in self._others)  # noqa: SLF001 - the only trace of a write


def _refuse_grown(buffer: torch.Tensor, shape: torch.Size) -> None:
    if buffer.shape != shape:
        raise TrainingError(
            f"train.logical_ranks: a buffer has grown from {tuple(shape)} to {tuple(buffer.shape)}",
            "keep its size, make it persistent=False where it is not state, or leave train.logical_ranks out",
        )


def _places(model: nn.Module, written: frozenset[str]) -> Iterator[tuple[nn.Module, str]]:
    """Yield module and attribute of each buffer, once also where two modules share it."""
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name, buffer in module.named_buffers(recurse=False):
            if plain_name(f"{path}.{name}".lstrip(".")) in written and id(buffer) not in seen:
                seen.add(id(buffer))
                yield module, name

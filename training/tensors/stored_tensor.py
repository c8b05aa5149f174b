"""Tensors that lie in files, and of which only those rows are read that a rank needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class StoredRows:
    """The rows of a tensor, along its first dimension, that are in one file."""

    start: int
    stop: int
    read: Callable[[int, int], torch.Tensor]
    """Returns those in a range, counted from the first one in the file."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that has not been read yet."""

    dtype: torch.dtype
    shape: torch.Size
    whole: Callable[[], torch.Tensor]
    """Reads all of it."""
    parts: Sequence[StoredRows]
    """All its rows, in their order."""

    def is_floating_point(self) -> bool:
        """Say whether its type is one of fractions."""
        return self.dtype.is_floating_point

    @property
    def nbytes(self) -> int:
        """Return the bytes of all of it."""
        return self.dtype.itemsize * math.prod(self.shape)

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Read the rows [start, stop)."""
        found = [
            part.read(max(start, part.start) - part.start, min(stop, part.stop) - part.start)
            for part in self.parts
            if max(start, part.start) < min(stop, part.stop)
        ]
        if not found:
            return torch.empty((0, *self.shape[1:]), dtype=self.dtype)
        return found[0] if len(found) == 1 else torch.cat(found)


AnyTensor = torch.Tensor | StoredTensor


def read_whole(tensor: AnyTensor) -> torch.Tensor:
    """Return a tensor in memory, read if it is in files."""
    return tensor.whole() if isinstance(tensor, StoredTensor) else tensor

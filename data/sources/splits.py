"""What an opened split is: arrays held whole, or samples read one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..samples import SampleSource

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ArraySplit:
    """A split held whole, on the CPU; memory-mapped arrays are read when they are touched."""

    x: torch.Tensor
    """[rows, ...], in the type that is stored."""
    y: torch.Tensor
    """[rows, ...]."""
    subset: NDArray[np.int64] | None
    """The rows that belong to the split, ascending; None is all."""

    def __len__(self) -> int:
        return len(self.x) if self.subset is None else len(self.subset)


@dataclass(frozen=True)
class MapSplit:
    """A split that is read sample by sample."""

    dataset: Any
    """Map-style: ``dataset[row]`` is one sample."""
    subset: NDArray[np.int64] | None
    """The rows that belong to the split, ascending; None is all."""
    source: SampleSource | None = None
    """What its samples are called, where that is known."""
    collate: Callable[[list[Any]], Any] | None = None
    """A user's own collation; None is the default."""
    padding: Any = None
    """A ``Padding``, where samples of different lengths are padded."""
    pairs: bool = True
    """Whether each sample is (input, target)."""
    target: str | None = None
    """Of samples that are dicts, the entry that is the target."""

    def __len__(self) -> int:
        return len(self.dataset) if self.subset is None else len(self.subset)

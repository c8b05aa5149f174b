"""What an opened split is: arrays held whole, or samples read one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..order import Indices
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
    bad: Mapping[int, str] = field(default_factory=dict)
    """Rows that nothing is known of but why they cannot be read."""
    skips: Any = None
    """A ``BadSamples``, where bad ones are skipped."""

    def __len__(self) -> int:
        return len(self.x) if self.subset is None else len(self.subset)


class ManyRows(Protocol):
    """A data set that reads many rows at once, from files whose rows lie together."""

    def read(
        self, rows: Indices, epoch: int, positions: Indices, seed: Callable[[int], None] | None = None
    ) -> Any:
        """Read rows of a step or of several: a tree of arrays [k, ...] and lists of k values, or a list of k samples.

        Args:
            rows: int64 [k].
            epoch: counted from 0.
            positions: in the epoch, of the first sample of the rank's part of the row's step, int64 [k], ascending.
            seed: called with each row before a user's code makes its sample.
        """
        ...

    def read_ahead(self, rows: Indices) -> None:
        """Begin to read what ``read`` will be asked for; called from another thread than it."""
        ...

    @property
    def block_rows(self) -> int:
        """Return how many rows are best read at once."""
        ...

    @property
    def samples(self) -> bool:
        """Tell whether it reads samples, which are to be made a batch."""
        ...

    def name_row(self, row: int) -> str:
        """Name a row for messages."""
        ...


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
    many: ManyRows | None = None
    """Reads many rows at once, where the data set can."""
    target: str | None = None
    """Of samples that are dicts, the entry that is the target."""
    bad: Mapping[int, str] = field(default_factory=dict)
    """Rows that are known to be unreadable, and why."""
    skips: Any = None
    """A ``BadSamples``, where bad ones are skipped; else one is an error."""

    def __len__(self) -> int:
        return len(self.dataset) if self.subset is None else len(self.subset)

"""What one rank does in a step, and what it received: the types that training and loading share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..order import Indices


@dataclass(slots=True)
class Work:
    """The work of one rank in one step: which indices, cut into which micro-batches."""

    indices: Indices
    """int64 [k], this rank's samples in order."""
    micro: Sequence[int]
    """Sizes that sum to k."""
    epoch: int = 0
    """Part of the key of what is random about a sample."""
    start: int = 0
    """Position of the first of ``indices`` in the epoch."""
    whole: Indices | None = None
    """Indices of the global batch, where this rank keeps the record of them."""
    pad: int | None = None
    """What sequences are padded to; None: to the longest of ``indices``, where the split pads at all."""
    stand_in: bool = False
    """This rank has no sample in the step: what is fetched has weight 0."""
    before: tuple[int, int] | None = None
    """The index, and the key of the random numbers, of the sample before the first one in the global batch, whose first
    one follows on its last. None: the last of ``indices``."""
    leave_out: bool = False
    """A sample that is bad is left out, and not replaced by another one, where bad samples are skipped."""
    keys: Indices | None = None
    """int64 [k], what the random numbers of each sample are drawn by, with the epoch; None: by its index."""

    @property
    def draws(self) -> Indices:
        """Return what the random numbers of each sample are drawn by: one that comes twice in an epoch differs."""
        return self.indices if self.keys is None else self.keys


def blocks_of(work: Iterable[Work], most: int) -> Iterator[list[Work]]:
    """Yield steps that are read together, of one epoch each: as many as have ``most`` samples, at least one."""
    block: list[Work] = []
    rows = 0
    for item in work:
        if block and (rows + item.indices.size > most or item.epoch != block[0].epoch):
            yield block
            block, rows = [], 0
        block.append(item)
        rows += item.indices.size
    if block:
        yield block


@dataclass(slots=True)
class StepBatch:
    """One step's micro-batches on the device, the indices that were really read, and the work that was requested."""

    micro: Sequence[Any]
    """Each a pair (inputs, targets), or whatever tree a user's data for a ``step`` has."""
    indices: Indices
    work: Work
    left_out: Sequence[int] = ()
    """Of each micro-batch, the samples that were left out; what has none left holds one that counts for nothing."""

    @property
    def sizes(self) -> Sequence[int]:
        """Return how many samples of each micro-batch count."""
        if not self.left_out:
            return self.work.micro
        return [asked - less for asked, less in zip(self.work.micro, self.left_out, strict=True)]


class Augment(Protocol):
    """A random change of training images, each by the number that its epoch and its index give it."""

    @property
    def mixing(self) -> Any:
        """A ``Mixing`` of whole batches, or None."""
        ...

    @property
    def draws_globally(self) -> bool:
        """Whether it draws from the global generators, which no other thread may use meanwhile."""
        ...

    def __call__(self, x: Any, epoch: int, indices: Indices) -> Any:
        """Change ``x`` [B, C, H, W], the samples ``indices`` [B] of an epoch."""
        ...

    def random_numbers(self, epoch: int, indices: Indices) -> NDArray[np.uint64]:
        """Draw the number that decides about each sample, uint64 [B]."""
        ...

    def apply(self, x: Any, draws: NDArray[np.uint64]) -> Any:
        """Change images by their ``draws``."""
        ...


class Feed(Protocol):
    """A source of batches: it turns work into batches, in order."""

    def fetch(self, work: Iterator[Work]) -> Iterator[StepBatch]:
        """Yield the batches of ``work``, one for each item."""
        ...

    @property
    def pads_by_batch(self) -> bool:
        """Say whether a batch's shape depends on which samples are in it."""
        ...

    def pad_length(self, indices: Indices) -> int | None:
        """Return what the samples of a global batch are padded to; None where nothing is padded."""
        ...

    def expect_classes(self, classes: int, ignored: int | None = None) -> None:
        """Check from now on that targets are class indices below ``classes``, or ``ignored``.

        Others raise ``DamagedError``.
        """
        ...

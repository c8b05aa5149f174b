"""From positions to batches on the device: one gather where the data is resident, a DataLoader where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from math import gcd
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..bad_samples import BadSamples
from ..order import Indices
from ..sources import ArraySplit
from .feed import Augment, StepBatch, Work, blocks_of
from .normalise import Normalisation, check_targets

_BLOCK_BYTES = 2 * 2**20  # one gather serves this much of several steps: 19 to 30 µs per batch of 32, not 40
_CACHE_LINE_BYTES = 64  # bytes; torch allocates on such boundaries
_MAX_DEVICE_MEMORY_SHARE = 0.25  # of the free device memory
_Row = TypeVar("_Row", np.int64, np.uint64)


class ResidentFeed:
    """A feed of arrays held whole: a batch is a slice of one gather that serves several steps.

    Args:
        split: the arrays.
        normalise: applied on the device.
        device: where batches are needed.
        classes: as in ``open_feed``.
        prefetch: gather on a thread of its own; worth it where a core is free.
        augment: as in ``open_feed``.
    """

    def __init__(
        self,
        split: ArraySplit,
        normalise: Normalisation,
        device: torch.device,
        *,
        classes: int | None,
        prefetch: bool = False,
        augment: Augment | None = None,
    ) -> None:
        self._targets = split.y
        self._bad, self._bad_rows = split.skips, np.array(sorted(split.bad), np.int64)
        targets = normalise.target(split.y)
        self._x, self._y = _on_device_if_it_fits(split.x, device), _on_device_if_it_fits(targets, device)
        self._subset = split.subset
        self._normalise = normalise
        self._device = device
        self._augment = augment
        self._prefetch = device.type == "cpu" and prefetch
        width = split.x[0].numel() * max(4, split.x.element_size())
        self._rows = max(1, _BLOCK_BYTES // max(1, width))
        self._alignment = max(
            _rows_per_cache_line(
                split.x[0], normalise.dtype if normalise.converts(split.x) else split.x.dtype
            ),
            _rows_per_cache_line(targets[0], targets.dtype),
        )
        if classes is not None:
            self.expect_classes(classes)

    @property
    def pads_by_batch(self) -> bool:
        """Say no: all rows have one shape."""
        return False

    def pad_length(self, indices: Indices) -> int | None:  # noqa: ARG002 - Feed
        """Return None: all rows have one shape."""
        return None

    def expect_classes(self, classes: int, ignored: int | None = None) -> None:
        """Check every target, once."""
        check_targets(self._targets, classes, ignored, lambda row: f"row {row}")

    def fetch(self, work: Iterator[Work]) -> Iterator[StepBatch]:
        """Yield the batches of ``work``, one for each item."""
        mapped = _prefetch_one if self._prefetch else map
        for block in mapped(self._gather, blocks_of(work, self._rows)):
            yield from block

    def _gather(self, block: list[Work]) -> list[StepBatch]:
        if self._bad_rows.size and self._bad is not None:
            return self._gather_good(block, self._bad)
        return self._gather_all(block)

    def _gather_all(self, block: list[Work]) -> list[StepBatch]:
        indices = block[0].indices if len(block) == 1 else np.concatenate([item.indices for item in block])
        rows = indices if self._subset is None else self._subset[indices]
        sizes = [size for item in block for size in item.micro]
        rows, cuts = _pad_to_cache_lines(rows, sizes, self._alignment)
        chosen = torch.from_numpy(rows)
        x, y = (self._rows_on_device(source, chosen) for source in (self._x, self._y))
        if self._augment is not None:
            draws = _augmentation_draws(self._augment, block)
            x = self._augment.apply(x, _pad_to_cache_lines(draws, sizes, self._alignment)[0])
        parts = list(zip(self._normalise(x).split(cuts)[::2], y.split(cuts)[::2], strict=True))
        fetched = []
        taken = row = 0
        for item in block:
            micro = parts[taken : taken + len(item.micro)]
            fetched.append(StepBatch(micro, indices[row : row + item.indices.size], item))
            taken += len(item.micro)
            row += item.indices.size
        return fetched

    def _gather_good(self, block: list[Work], bad: BadSamples) -> list[StepBatch]:
        """Gather what can be read."""
        ways = [self._left_out if item.leave_out else self._replaced for item in block]
        reads, told, left_out = zip(
            *(way(item, bad) for way, item in zip(ways, block, strict=True)), strict=True
        )
        gathered = self._gather_all(list(reads))
        return [
            StepBatch(batch.micro, *rest)
            for batch, *rest in zip(gathered, told, block, left_out, strict=True)
        ]

    def _replaced(self, item: Work, bad: BadSamples) -> tuple[Work, Indices, Sequence[int]]:
        """Put other samples in the place of bad ones; what is reported are those that were asked for."""
        read = item.indices.copy()
        for place in np.flatnonzero(self._are_bad(read)):
            read[place] = bad.replacement(item.epoch, int(item.draws[place]), self._is_good)
        return replace(item, indices=read, keys=item.draws), item.indices, ()

    def _left_out(self, item: Work, bad: BadSamples) -> tuple[Work, Indices, Sequence[int]]:
        """Leave bad samples out; a micro-batch without any other gets one that counts for nothing."""
        parts = np.split(item.indices, np.cumsum(item.micro)[:-1])
        kept = [part[~self._are_bad(part)] for part in parts]
        filled = [
            good if good.size else np.array([bad.replacement(0, int(part[0]), self._is_good)], np.int64)
            for good, part in zip(kept, parts, strict=True)
        ]
        left_out = [part.size - good.size for good, part in zip(kept, parts, strict=True)]
        read = replace(item, indices=np.concatenate(filled), micro=[part.size for part in filled], keys=None)
        return read, np.concatenate(kept), left_out if any(left_out) else ()

    def _are_bad(self, indices: Indices) -> NDArray[np.bool_]:
        return np.isin(indices if self._subset is None else self._subset[indices], self._bad_rows)

    def _is_good(self, place: int) -> bool:
        return not self._are_bad(np.array([place], np.int64))[0]

    def _rows_on_device(self, source: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        if source.device == self._device:
            return source.index_select(0, rows.to(self._device, non_blocking=True))
        return source.index_select(0, rows).to(self._device, non_blocking=True)


def _rows_per_cache_line(row: torch.Tensor, dtype: torch.dtype) -> int:
    """Compute the number of rows after which a batch begins on a cache line again."""
    return _CACHE_LINE_BYTES // gcd(_CACHE_LINE_BYTES, max(1, row.numel()) * dtype.itemsize)


def _augmentation_draws(augment: Augment, block: list[Work]) -> NDArray[np.uint64]:
    """Draw once for all steps of an epoch in a block, which costs a tenth of drawing for each step."""
    epochs = groupby(block, lambda item: item.epoch)
    return np.concatenate(
        [
            augment.random_numbers(epoch, np.concatenate([item.draws for item in items]))
            for epoch, items in epochs
        ]
    )


def _pad_to_cache_lines(
    rows: NDArray[_Row], sizes: list[int], alignment: int
) -> tuple[NDArray[_Row], list[int]]:
    """Insert fillers into ``rows``, so that every micro-batch of ``sizes`` begins on a cache line.

    A matrix product's last bits depend on where its operands lie in memory. Where a batch lies among those that
    are gathered with it depends on the step that a run was resumed at.

    Returns:
        The rows, and the lengths to cut them into: a micro-batch and its fillers in turn.
    """
    fillers: list[int] = [-size % alignment for size in sizes]
    cuts = [length for pair in zip(sizes, fillers, strict=True) for length in pair]
    if not any(fillers):
        return rows, cuts
    padded = np.full(sum(cuts), rows[0])
    shifts = np.cumsum([0, *fillers[:-1]])
    padded[np.arange(rows.size) + np.repeat(shifts, sizes)] = rows
    return padded, cuts


def _prefetch_one(
    gather: Callable[[list[Work]], list[StepBatch]], blocks: Iterator[list[Work]]
) -> Iterator[list[StepBatch]]:
    """Yield ``map(gather, blocks)`` while a thread gathers the next block."""
    with ThreadPoolExecutor(1, thread_name_prefix="gather") as pool:
        following: Future[list[StepBatch]] | None = None
        for block in blocks:
            ready, following = following, pool.submit(gather, block)
            if ready is not None:
                yield ready.result()
        if following is not None:
            yield following.result()


def _on_device_if_it_fits(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move values to the device where that leaves room for the model; else they stay in host memory."""
    if device.type != "cuda":
        return values
    free, _ = torch.cuda.mem_get_info(device)
    return values.to(device) if values.nbytes <= _MAX_DEVICE_MEMORY_SHARE * free else values

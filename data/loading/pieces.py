"""Rows read many at once: blocks of steps, of which each worker reads its own part of every batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..common import LockstepError, MemoryLimitError, TrainingError
from ..order import Indices, mix, seed_global_generators, shard
from ..samples import ReadError, SampleSource, collate, is_pair
from ..sources import ManyRows, MapSplit
from .feed import Work, blocks_of
from .read_ahead import ReadAhead

_CACHE_LINE_BYTES = 64
Part = tuple[Indices, Any]
"""Rows, and the batch that was made of them."""


@dataclass(frozen=True)
class _Piece:
    """The part of a block that one worker reads."""

    epoch: int
    rows: Indices
    positions: Indices
    """Of each row: in the epoch, of the first sample of the rank's part of its step."""
    ends: list[int]
    """Behind the rows of each micro-batch."""


@dataclass(frozen=True)
class _MicroBatches:
    """The batches that were made of lists of values; None where a micro-batch has no rows in the piece."""

    each: list[Any]


class _PieceReader(Dataset[Any]):
    """A data set of pieces; the randomness of samples is keyed by (seed, epoch, index)."""

    def __init__(self, split: MapSplit, many: ManyRows, source: SampleSource, seed: int) -> None:
        self._split = split
        self._many = many
        self._source = source
        self._seed = seed

    def __getitems__(self, piece: _Piece) -> Part:
        """Read a piece; an error takes its place."""
        if not piece.rows.size:
            return piece.rows, None
        try:
            return piece.rows, self._batch(piece)
        except LockstepError as error:
            return piece.rows, ReadError(error)
        except MemoryError:
            what = f"{self._many.name_row(int(piece.rows[0]))}: out of memory while its row group was read"
            return piece.rows, ReadError(
                MemoryLimitError(what, "lower data.args.window, or write smaller groups")
            )

    def _batch(self, piece: _Piece) -> Any:
        if not self._many.samples:
            return self._tensors(self._many.read(piece.rows, piece.epoch, piece.positions), piece)

        def seed(row: int) -> None:  # each draws by a key of its own
            seed_global_generators(mix(self._seed, piece.epoch, row))

        samples = self._many.read(piece.rows, piece.epoch, piece.positions, seed)
        return self._collated(samples, piece, pairs=self._split.pairs)

    def _tensors(self, value: Any, piece: _Piece) -> Any:
        """Make arrays [k, ...] tensors, and batches of each list of k values."""
        if isinstance(value, tuple):
            return tuple(self._tensors(item, piece) for item in value)
        if isinstance(value, dict):
            return {name: self._tensors(item, piece) for name, item in value.items()}
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value if value.flags.writeable else value.copy())
        return self._collated(value, piece, pairs=False)

    def _collated(self, values: list[Any], piece: _Piece, *, pairs: bool) -> _MicroBatches:
        rows = piece.rows.tolist()
        spans = zip([0, *piece.ends[:-1]], piece.ends, strict=True)
        return _MicroBatches(
            [
                collate(values[begin:end], rows[begin:end], self._source, pairs=pairs)
                if end > begin
                else None
                for begin, end in spans
            ]
        )


@dataclass
class ManyRowsPieces:
    """The cut of blocks of steps into as many pieces as there are workers.

    torch's DataLoader hands out what is asked in turn, so that a worker always reads the same places of a batch, which
    belong to the same few files.
    """

    many: ManyRows
    count: int
    """Of each block."""
    pin: bool = False
    """Whether batches go to a device from pinned memory."""

    def reader(self, split: MapSplit, source: SampleSource, seed: int) -> Dataset[Any]:
        """Return what a worker reads from."""
        return _PieceReader(split, self.many, source, seed)

    def as_read(self, piece: Part) -> Part:
        """Return a piece: it is a batch already."""
        return piece

    def ahead(self, reader: Any) -> ReadAhead:
        """Return what reads without workers; a user's code is not run on a thread."""

        def read(piece: _Piece) -> Part:
            indices, batch = reader.__getitems__(piece)
            return indices, _map(batch, torch.Tensor.pin_memory) if self.pin else batch

        return ReadAhead(read, lambda piece: self.many.read_ahead(piece.rows), threaded=not self.many.samples)

    def blocks(self, work: Iterator[Work]) -> Iterator[list[Work]]:
        """Yield steps that are read together; with a user's code, one at a time."""
        return blocks_of(work, 0 if self.many.samples else self.many.block_rows)

    def asked(self, block: list[Work]) -> Iterator[_Piece]:
        """Yield the pieces of a block: of each micro-batch, each worker has a part."""
        micro = [
            (item.start, rows)
            for item in block
            for rows in np.split(item.indices, np.cumsum(item.micro)[:-1])
        ]
        for number in range(self.count):
            own = [rows[slice(*shard(0, rows.size, number, self.count))] for _, rows in micro]
            sizes = [rows.size for rows in own]
            positions = np.repeat(np.array([start for start, _ in micro], np.int64), sizes)
            yield _Piece(block[0].epoch, np.concatenate(own), positions, np.cumsum(sizes).tolist())

    def micro_batches(
        self, block: list[Work], pieces: list[Part], device: torch.device
    ) -> Iterator[list[Part]]:
        """Yield the parts of each micro-batch of a block, on the device."""
        moved = [_map(batch, partial(_to, device=device)) for _, batch in pieces]
        at = [0] * self.count
        for micro, size in enumerate(size for item in block for size in item.micro):
            parts = []
            for number, (indices, _) in enumerate(pieces):
                begin, end = shard(0, size, number, self.count)
                span = slice(at[number], at[number] + end - begin)
                at[number] = span.stop
                if end > begin:
                    parts.append((indices[span], _cut(moved[number], span, micro)))
            yield parts

    def joined(self, parts: list[Part]) -> Part:
        """Put the parts of a micro-batch together.

        Raises:
            TrainingError: samples of one have another shape than those of another.
        """
        if len(parts) == 1:
            return parts[0][0], _map(parts[0][1], _aligned)
        try:
            return np.concatenate([rows for rows, _ in parts]), _concatenated([batch for _, batch in parts])
        except _OtherShapeError as error:
            one, other = (self.name(int(parts[at][0][0])) for at in (error.at, 0))
            what = (
                f"{one} and those after it have shape {error.shape}, {other} and those after it {error.first}"
            )
            raise TrainingError(what, "make all of one shape: data.args.decode=./file.py:name") from error

    def name(self, row: int) -> str:
        """Name a row for messages."""
        return self.many.name_row(row)


class _OtherShapeError(Exception):
    """Samples of another shape than the first ones'."""

    def __init__(self, at: int, shape: list[int], first: list[int]) -> None:
        super().__init__(f"{shape}, not {first}")
        self.at = at
        self.shape = shape
        self.first = first


def _cut(batch: Any, span: slice, micro: int) -> Any:
    """Take the rows of a micro-batch."""
    if isinstance(batch, _MicroBatches):
        return batch.each[micro]
    if isinstance(batch, dict):
        return {name: _cut(item, span, micro) for name, item in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_cut(item, span, micro) for item in batch)
    return batch[span]


def _aligned(rows: torch.Tensor) -> torch.Tensor:
    """Copy rows that do not begin on a cache line: where a batch lies in its block depends on the step of a resume.

    A matrix product's last bits depend on where its operands lie in memory.
    """
    return rows if rows.data_ptr() % _CACHE_LINE_BYTES == 0 else rows.clone()


def _to(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    return values.to(device, non_blocking=True)


def _map(batch: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Change every tensor."""
    if isinstance(batch, torch.Tensor):
        return change(batch)
    if isinstance(batch, _MicroBatches):
        return _MicroBatches([_map(item, change) for item in batch.each])
    if isinstance(batch, dict):
        return {name: _map(item, change) for name, item in batch.items()}
    if is_pair(batch) or (isinstance(batch, list | tuple) and not _is_text(batch)):
        return type(batch)(_map(item, change) for item in batch)
    return batch


def _concatenated(batches: list[Any]) -> Any:
    """Join batches of one structure, each value along the samples."""
    first = batches[0]
    if isinstance(first, torch.Tensor):
        for at, batch in enumerate(batches):
            if batch.shape[1:] != first.shape[1:]:
                raise _OtherShapeError(at, list(batch.shape[1:]), list(first.shape[1:]))
        return torch.cat(batches)
    if isinstance(first, dict):
        return {name: _concatenated([batch[name] for batch in batches]) for name in first}
    if isinstance(first, list | tuple) and not _is_text(first):
        return type(first)(_concatenated(list(items)) for items in zip(*batches, strict=True))
    return [text for batch in batches for text in batch]


def _is_text(values: list[Any] | tuple[Any, ...]) -> bool:
    return bool(values) and isinstance(values[0], str | bytes)

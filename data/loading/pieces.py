"""Rows read many at once: each worker reads its own part of every batch, and so its own files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..common import LockstepError, MemoryLimitError, TrainingError
from ..order import Indices, mix, seed_global_generators, shard
from ..samples import SampleSource, collate, is_pair
from ..sources import ManyRows, MapSplit
from .feed import Work
from .read_error import ReadError


@dataclass(frozen=True)
class _Piece:
    """The part of a micro-batch that one worker reads."""

    epoch: int
    position: int
    """In the epoch, of the first sample of the rank's part of the step."""
    rows: Indices


class _PieceReader(Dataset[Any]):
    """A data set of pieces; the randomness of samples is keyed by (seed, epoch, index)."""

    def __init__(self, split: MapSplit, many: ManyRows, source: SampleSource, seed: int) -> None:
        self._split = split
        self._many = many
        self._source = source
        self._seed = seed

    def __getitems__(self, piece: _Piece) -> tuple[Indices, Any]:
        """Read a piece; an error takes its place."""
        if not piece.rows.size:
            return piece.rows, None
        try:
            return piece.rows, self._batch(piece)
        except LockstepError as error:
            return piece.rows, ReadError(error)
        except MemoryError:
            what = f"{self._many.describe(int(piece.rows[0]))}: out of memory while its row group was read"
            return piece.rows, ReadError(
                MemoryLimitError(what, "lower data.args.window, or write smaller groups")
            )

    def _batch(self, piece: _Piece) -> Any:
        if not self._many.samples:
            read = self._many.read(piece.rows, piece.epoch, piece.position)
            return _tensors(read, piece.rows.tolist(), self._source)
        samples = []
        for row in piece.rows.tolist():  # each draws by a key of its own
            seed_global_generators(mix(self._seed, piece.epoch, row))
            samples += self._many.read(np.array([row], np.int64), piece.epoch, piece.position)
        return collate(samples, piece.rows.tolist(), self._source, pairs=self._split.pairs)


@dataclass
class ManyRowsPieces:
    """The cut of every micro-batch into as many pieces as there are workers.

    torch's DataLoader hands out what is asked in turn, so that a worker always reads the same places of a batch, which
    belong to the same few files.
    """

    many: ManyRows
    count: int

    def reader(self, split: MapSplit, source: SampleSource, seed: int) -> Dataset[Any]:
        """Return what a worker reads from."""
        return _PieceReader(split, self.many, source, seed)

    def as_read(self, piece: tuple[Indices, Any]) -> tuple[Indices, Any]:
        """Return a piece: it is a batch already."""
        return piece

    def asked(self, item: Work) -> Iterator[Any]:
        """Yield the pieces of a step."""
        for part in np.split(item.indices, np.cumsum(item.micro)[:-1]):
            for number in range(self.count):
                begin, end = shard(0, part.size, number, self.count)
                yield _Piece(item.epoch, item.start, part[begin:end])

    def joined(self, pieces: list[tuple[Indices, Any]], device: torch.device) -> tuple[Indices, Any]:
        """Put the pieces of a micro-batch together, on the device.

        Raises:
            TrainingError: samples of one have another shape than those of another.
        """
        moved = [_on_device(batch, device) for _, batch in pieces]
        indices = np.concatenate([rows for rows, _ in pieces])
        try:
            return indices, moved[0] if len(moved) == 1 else _concatenated(moved)
        except _OtherShapeError as error:
            one, other = (self.name(int(pieces[at][0][0])) for at in (error.at, 0))
            what = (
                f"{one} and those after it have shape {error.shape}, {other} and those after it {error.first}"
            )
            raise TrainingError(what, "make all of one shape: data.args.decode=./file.py:name") from error

    def name(self, row: int) -> str:
        """Name a row for messages."""
        return self.many.describe(row)


class _OtherShapeError(Exception):
    """Samples of another shape than the first ones'."""

    def __init__(self, at: int, shape: list[int], first: list[int]) -> None:
        super().__init__(f"{shape}, not {first}")
        self.at = at
        self.shape = shape
        self.first = first


def _tensors(value: Any, rows: list[int], source: SampleSource) -> Any:
    """Make arrays [k, ...] tensors, and a batch of each list of k values."""
    if isinstance(value, tuple):
        return tuple(_tensors(item, rows, source) for item in value)
    if isinstance(value, dict):
        return {name: _tensors(item, rows, source) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value if value.flags.writeable else value.copy())
    return collate(value, rows, source, pairs=False)


def _on_device(batch: Any, device: torch.device) -> Any:
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {name: _on_device(item, device) for name, item in batch.items()}
    if is_pair(batch) or (isinstance(batch, list | tuple) and not _is_text(batch)):
        return type(batch)(_on_device(item, device) for item in batch)
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

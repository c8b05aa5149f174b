"""Rows read many at once: each worker reads its own part of every batch, and so its own files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..common import LockstepError, MemoryLimitError, TrainingError
from ..order import Indices, mix, seed_global_generators, shard
from ..samples import SampleSource, collate, is_pair
from ..sources import ManyRows, MapSplit
from .feed import StepBatch, Work
from .loader_feed import LoaderFeed, SampleReadError


@dataclass(frozen=True)
class _Piece:
    """What one worker reads of a micro-batch."""

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
            return piece.rows, SampleReadError(error)
        except MemoryError:
            what = f"{self._many.describe(int(piece.rows[0]))}: out of memory while its row group was read"
            return piece.rows, SampleReadError(
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


def _as_read(piece: tuple[Indices, Any]) -> tuple[Indices, Any]:
    return piece


class ShardFeed(LoaderFeed):
    """A feed of rows that are read many at once.

    A micro-batch is cut into as many pieces as there are workers. torch's DataLoader hands out pieces in turn, so that
    a worker always reads the same places of a batch, which belong to the same few files.
    """

    def _reader(self, split: MapSplit, source: SampleSource, seed: int) -> Dataset[Any]:
        if split.many is None:
            raise ValueError("a split that is read row by row")
        self._many = split.many
        return _PieceReader(split, split.many, source, seed)

    def _collation(self, split: MapSplit, source: SampleSource) -> Callable[[Any], tuple[Indices, Any]]:  # noqa: ARG002
        return _as_read

    def fetch(self, work: Iterator[Work]) -> Iterator[StepBatch]:
        """Yield the batches of ``work``, one for each item."""
        pending: deque[Work] = deque()
        pieces = max(1, self._loader.num_workers)

        def queue() -> Iterator[Any]:
            for item in work:
                pending.append(item)
                for part in np.split(item.indices, np.cumsum(item.micro)[:-1]):
                    for number in range(pieces):
                        begin, end = shard(0, part.size, number, pieces)
                        yield _Piece(item.epoch, item.start, part[begin:end])

        self._sampler.queue = queue()
        read: list[tuple[Indices, Any]] = []
        micro: list[tuple[Indices, Any]] = []
        for piece in self._iterator():
            if isinstance(piece[1], SampleReadError):
                raise piece[1].error
            read.append(piece)
            if len(read) < pieces:
                continue
            micro.append(self._joined(read, pending[0].epoch))
            read = []
            if len(micro) == len(pending[0].micro):
                indices = np.concatenate([part for part, _ in micro])
                yield StepBatch([batch for _, batch in micro], indices, pending.popleft())
                micro = []

    def _joined(self, pieces: list[tuple[Indices, Any]], epoch: int) -> tuple[Indices, Any]:
        """Put the pieces of a micro-batch together, on the device."""
        there = [(rows, batch) for rows, batch in pieces if rows.size]
        for rows, batch in there:
            self._refuse_another_structure(int(rows[0]), batch)
        indices = np.concatenate([rows for rows, _ in there])
        moved = [_on_device(batch, self._device) for _, batch in there]
        try:
            batch = moved[0] if len(moved) == 1 else _concatenated(moved)
        except _OtherShapeError as error:
            one, other = (self._many.describe(int(there[at][0][0])) for at in (error.at, 0))
            what = (
                f"{one} and those after it have shape {error.shape}, {other} and those after it {error.first}"
            )
            raise TrainingError(what, "make all of one shape: data.args.decode=./file.py:name") from error
        return indices, self._to_device(indices, batch, epoch)

    def _row(self, index: Any) -> Any:
        return self._many.describe(int(index))


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

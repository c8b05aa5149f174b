"""Samples read one by one, by torch's DataLoader and its workers."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ..bad_samples import ATTEMPTS, is_bad_input
from ..common import LockstepError, MachineError, stop_signals_blocked_if_supervised
from ..order import Indices, mix, seed_global_generators
from ..samples import (
    Padding,
    ReadError,
    SampleSource,
    collate,
    is_pair,
    map_tensors,
    read_sample,
    refuse_another_structure,
    source_of,
    split_target,
    structure,
)
from ..sources import MapSplit
from .feed import Augment, StepBatch, Work
from .loader_workers import init_loader_worker
from .normalise import Normalisation, check_targets, whole_numbers
from .read_ahead import ReadAhead

_Asked = tuple[int, int, int, int | None, bool]
"""Of a sample: the epoch, its index, the key of its random numbers, the length to pad to, and whether it is left out
where it is bad."""
_SKIPPED: Any = object()
"""Stands for a sample that is bad and to be skipped."""


class _SeededDataset(Dataset[Any]):
    """A data set whose randomness is keyed by seed, epoch and sample, and that reports what it really fetched."""

    def __init__(self, split: MapSplit, source: SampleSource, seed: int) -> None:
        self._dataset = split.dataset
        self._subset = split.subset
        self._source = source
        self._seed = seed
        self._bad = split.skips

    def __getitem__(self, asked: _Asked) -> tuple[int, Any, int | None]:
        epoch, index, key, pad, leave_out = asked
        value = self._read(epoch, index, key)
        if value is _SKIPPED and not leave_out:
            value = self.instead(epoch, key)
        return index, value, pad

    def _read(self, epoch: int, index: int, key: int) -> Any:
        """Read a sample; an error takes its place, or that it is to be skipped."""
        seed_global_generators(mix(self._seed, epoch, key))
        try:
            return read_sample(self._dataset, self.row(index), self._source)
        except LockstepError as error:
            return self._noted(index, error)

    def _noted(self, index: int, error: LockstepError) -> Any:
        if self._bad is None or not is_bad_input(error):
            return ReadError(error)
        try:
            self._bad.note(self.row(index), error.message)
        except LockstepError as too_many:
            return ReadError(too_many)
        return _SKIPPED

    def instead(self, epoch: int, key: int) -> Any:
        """Read the sample that takes the place of a bad one: the first that is good of those drawn by its key."""
        bad = self._bad
        if bad is None:
            raise ValueError("nothing is skipped")
        for attempt in range(ATTEMPTS):
            value = self._read(epoch, bad.place(epoch, key, attempt), key)
            if value is not _SKIPPED:
                return value
        return ReadError(bad.exhausted())

    def row(self, index: int) -> int:
        """Look up the data set's own number of a sample of the split."""
        return index if self._subset is None else int(self._subset[index])


def _begin_worker(number: int) -> None:
    init_loader_worker(number, _send_failure)


def _send_failure(error: Exception) -> tuple[Indices, ReadError]:
    """Send the error in place of a batch that a worker could not send."""
    what = f"a loader's worker cannot send a batch: {type(error).__name__}: {error}"
    how = "use data.workers=0, or make room in what it names, such as `ulimit -n` or /dev/shm"
    return np.empty(0, np.int64), ReadError(MachineError(what, how))


class _MicroBatchSampler(Sampler[Any]):
    """A sampler of what is asked of a worker at a time, from the work that was set last.

    For a micro-batch that is a list of what each sample is asked by, or its pieces.
    """

    def __init__(self) -> None:
        self.queue: Iterator[Any] = iter(())

    def __iter__(self) -> Iterator[Any]:
        return self.queue


class _Collation:
    """A maker of batches, in a worker or in the rank; an error takes the batch's place."""

    def __init__(self, dataset: _SeededDataset, source: SampleSource, split: MapSplit) -> None:
        self._dataset = dataset
        self._padding = split.padding
        self._collate = partial(collate, source=source, own=split.collate, pairs=split.pairs)

    def __call__(self, samples: list[tuple[int, Any, int | None]]) -> tuple[Indices, Any]:
        kept = [sample for sample in samples if sample[1] is not _SKIPPED]
        indices = np.array([index for index, *_ in kept], np.int64)
        if not kept:
            index, _, pad = samples[0]
            kept = [(index, self._dataset.instead(0, index), pad)]
        return self._batch(kept, indices)

    def _batch(self, samples: list[tuple[int, Any, int | None]], indices: Indices) -> tuple[Indices, Any]:
        for index, value, _ in samples:
            if isinstance(value, ReadError):
                return np.array([index], np.int64), value
        rows = [self._dataset.row(index) for index, *_ in samples]
        try:
            pad = None if self._padding is None else (self._padding, samples[0][2] or 0)
            return indices, self._collate([value for _, value, _ in samples], rows, pad=pad)
        except LockstepError as error:
            return indices, ReadError(error)


class Pieces(Protocol):
    """A cut of blocks of steps into pieces that workers read, for a split that can read many rows at once."""

    count: int
    """Of each block."""

    def reader(self, split: MapSplit, source: SampleSource, seed: int) -> Dataset[Any]:
        """Return what a worker reads from."""
        ...

    def ahead(self, reader: Any) -> ReadAhead:
        """Return what reads where there are no workers."""
        ...

    def as_read(self, piece: Any) -> tuple[Indices, Any]:
        """Return a piece: it is a batch already."""
        ...

    def blocks(self, work: Iterator[Work]) -> Iterator[list[Work]]:
        """Yield steps that are read together."""
        ...

    def asked(self, block: list[Work]) -> Iterator[Any]:
        """Yield the pieces of a block."""
        ...

    def micro_batches(
        self, block: list[Work], pieces: list[tuple[Indices, Any]], device: torch.device
    ) -> Iterator[list[tuple[Indices, Any]]]:
        """Yield the parts of each micro-batch of a block, on the device."""
        ...

    def joined(self, parts: list[tuple[Indices, Any]]) -> tuple[Indices, Any]:
        """Put the parts of a micro-batch together."""
        ...

    def name(self, row: int) -> str:
        """Name a row for messages."""
        ...


class LoaderFeed:
    """A feed of samples read one by one, through torch's DataLoader; its workers live as long as the feed.

    They are forked when it is opened, before the ranks' first collective: a thread of the process group that frees
    a tensor just then leaves the worker a lock that is never released (CPython before 3.12, its issue 112275).
    """

    def __init__(
        self,
        split: MapSplit,
        normalise: Normalisation,
        device: torch.device,
        *,
        workers: int,
        classes: int | None,
        seed: int,
        augment: Augment | None = None,
        pieces: Pieces | None = None,
    ) -> None:
        self._pieces = pieces
        self._sampler = _MicroBatchSampler()
        self._normalise = normalise
        self._augment = augment
        self._device = device
        self._classes = classes
        self._ignored: int | None = None
        self._padding: Padding | None = split.padding
        self._target_key = split.target
        self._alike = split.collate is None
        self._first: tuple[int, Any] | None = None
        source = split.source or source_of(split.dataset)
        self._source = source
        self._dataset = _SeededDataset(split, source, seed)
        collation: Callable[[Any], tuple[Indices, Any]] = _Collation(self._dataset, source, split)
        collation = collation if pieces is None else pieces.as_read
        dataset = self._dataset if pieces is None else pieces.reader(split, source, seed)
        self._ahead = None if pieces is None or workers else pieces.ahead(dataset)
        with warnings.catch_warnings():
            # The number of workers is a setting; that it exceeds the cores is reported by the plan, not by torch.
            warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
            self._loader: DataLoader[Any] = DataLoader(
                dataset,
                batch_sampler=self._sampler,
                num_workers=workers,
                collate_fn=collation,
                pin_memory=device.type == "cuda",
                persistent_workers=workers > 0,
                multiprocessing_context="fork" if workers else None,
                worker_init_fn=_begin_worker,
                generator=torch.Generator(),  # its own: a draw from the global one shifts the model's randomness
            )
        self._iterator()

    def fetch(self, work: Iterator[Work]) -> Iterator[StepBatch]:
        """Yield the batches of ``work``, one for each item."""
        return self._fetch_samples(work) if self._pieces is None else self._fetch_blocks(work, self._pieces)

    def _fetch_samples(self, work: Iterator[Work]) -> Iterator[StepBatch]:
        pending: deque[Work] = deque()

        def queue() -> Iterator[Any]:
            for item in work:
                pending.append(item)
                yield from self._asked(item)

        loaded: list[tuple[Indices, Any]] = []
        for indices, sample in self._results(queue()):
            loaded.append(self._batch(indices, sample, pending[0], len(loaded)))
            if len(loaded) == len(pending[0].micro):
                yield _step_batch(loaded, pending.popleft())
                loaded = []

    def _fetch_blocks(self, work: Iterator[Work], pieces: Pieces) -> Iterator[StepBatch]:
        pending: deque[list[Work]] = deque()

        def queue() -> Iterator[Any]:
            for block in pieces.blocks(work):
                pending.append(block)
                yield from pieces.asked(block)

        read: list[tuple[Indices, Any]] = []
        for piece in self._results(queue()):
            read.append(piece)
            if len(read) == pieces.count:
                block = pending.popleft()
                micro = pieces.micro_batches(block, read, self._device)
                for item in block:
                    joined = [self._joined(pieces, next(micro), item, at) for at in range(len(item.micro))]
                    yield _step_batch(joined, item)
                read = []

    def _results(self, asked: Iterator[Any]) -> Iterator[tuple[Indices, Any]]:
        """Yield what was read for what is asked, in its order."""
        if self._ahead is None:
            self._sampler.queue = asked
            found = self._iterator()
        else:
            found = self._ahead.results(asked)
        for indices, sample in found:
            if isinstance(sample, ReadError):
                raise sample.error
            yield indices, sample

    def _asked(self, item: Work) -> Iterator[list[_Asked]]:
        """Yield what is asked for each micro-batch."""
        pad = self.pad_length(item.indices) if item.pad is None else item.pad
        ends = np.cumsum(item.micro)[:-1]
        for part, keys in zip(np.split(item.indices, ends), np.split(item.draws, ends), strict=True):
            pairs = zip(part.tolist(), keys.tolist(), strict=True)
            yield [(item.epoch, index, key, pad, item.leave_out) for index, key in pairs]

    def _batch(self, indices: Indices, batch: Any, item: Work, number: int) -> tuple[Indices, Any]:
        """Make the micro-batch of this number on the device, of what was read for it."""
        if indices.size:
            self._refuse_another_structure(int(indices[0]), batch)
        start = sum(item.micro[:number])
        draws = item.draws[start : start + item.micro[number]]
        return indices, self._to_device(indices, batch, item.epoch, draws)

    def _joined(
        self, pieces: Pieces, parts: list[tuple[Indices, Any]], item: Work, number: int
    ) -> tuple[Indices, Any]:
        """Make a micro-batch of what several workers have read of it."""
        for indices, part in parts if len(parts) > 1 else ():
            self._refuse_another_structure(int(indices[0]), part)
        return self._batch(*pieces.joined(parts), item, number)

    def _iterator(self) -> Iterator[tuple[Indices, Any]]:
        """Iterate over what the sampler holds; the first iterator starts the workers."""
        with stop_signals_blocked_if_supervised():
            return iter(self._loader)

    @property
    def pads_by_batch(self) -> bool:
        """Say whether a batch's shape depends on which samples are in it."""
        return self._padding is not None and self._padding.config.to == "longest"

    def pad_length(self, indices: Indices) -> int | None:
        """Return what the samples of a global batch are padded to; None where nothing is padded."""
        if self._padding is None:
            return None
        return self._padding.length([self._dataset.row(int(index)) for index in indices])

    def expect_classes(self, classes: int, ignored: int | None = None) -> None:
        """Check every target when it is read."""
        self._classes, self._ignored = classes, ignored

    def _to_device(self, indices: Indices, batch: Any, epoch: int, draws: Indices) -> Any:
        if self._target_key is not None:
            batch = split_target(batch, self._target_key)
        if not is_pair(batch):
            return map_tensors(batch, self._any_value, self._device)
        x, y = batch
        if isinstance(y, torch.Tensor) and indices.size:
            check_targets(y, self._classes, self._ignored, lambda row: f"sample {self._row(indices[row])}")
        x = map_tensors(x, self._tensor_to_device, self._device)
        if self._augment is not None:
            x = self._augment(x, epoch, draws)
        return map_tensors(x, self._normalise, self._device), map_tensors(y, self._target, self._device)

    def _any_value(self, value: torch.Tensor) -> torch.Tensor:
        """Convert what is neither known to be an input nor a target: one whole number per sample is a label."""
        return self._normalise(whole_numbers(self._tensor_to_device(value)))

    def _refuse_another_structure(self, index: int, batch: Any) -> None:
        """Refuse a batch whose samples are not like those of the first: its type would depend on how it was cut."""
        if not self._alike:
            return
        found = structure(batch)
        if self._first is None:
            self._first = self._row(index), found
        elif found != self._first[1]:
            refuse_another_structure(self._source, (self._row(index), found), self._first)

    def _row(self, index: Any) -> Any:
        return self._dataset.row(int(index)) if self._pieces is None else self._pieces.name(int(index))

    def _target(self, value: torch.Tensor) -> torch.Tensor:
        return self._normalise.target(self._tensor_to_device(value))

    def _tensor_to_device(self, value: torch.Tensor) -> torch.Tensor:
        return value.to(self._device, non_blocking=True)


def _step_batch(loaded: list[tuple[Indices, Any]], item: Work) -> StepBatch:
    parts = [part for part, _ in loaded]
    missing = [asked - part.size for asked, part in zip(item.micro, parts, strict=True)]
    left_out = missing if any(missing) else ()
    return StepBatch([batch for _, batch in loaded], np.concatenate(parts), item, left_out)

"""A user's iterables as one set of samples: each shard is passed through by those that need some of its samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common import LockstepError, MemoryLimitError, TrainingError, raised_at_its_line
from ..order import Indices

SEEK = "__lockstep_seek__"
_SKIPPED = 32
"""Samples that are rather read than leapt over."""
_HINT = "a shard must yield the same samples in the same order on every pass, as many as its __len__ says"
_END: Any = object()


@dataclass
class _Pass:
    """One way through a shard."""

    iterator: Iterator[Any]
    epoch: int
    next: int
    """The place of the sample that it yields next."""


class IterableRows:
    """The samples of several iterables, numbered one iterable after another.

    Each reader (a rank, or one of its workers) opens those that it reads from, and reads what others take of them as
    well: ``read`` is asked for samples of a shard in their order. Before each sample the generators are seeded by its
    key, so that what an iterable draws depends neither on what else a reader reads nor on where it began.

    Args:
        shards: iterables that can be passed through again and again.
        lengths: samples of each, int64 [shards].
    """

    def __init__(self, shards: Sequence[Any], lengths: Indices) -> None:
        self.shards = shards
        self.shard_lengths = lengths
        self._ends = np.cumsum(lengths)
        self._passes: dict[int, _Pass] = {}
        self._owner = os.getpid()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> Any:
        if not 0 <= row < len(self):
            raise IndexError(row)
        from ..order import mix, seed_global_generators

        return self._sample(row, 0, lambda of: seed_global_generators(mix(0, 0, of)))

    def read(
        self,
        rows: Indices,
        epoch: int,
        positions: Indices,  # noqa: ARG002 - ManyRows
        seed: Callable[[int], None] | None = None,
    ) -> list[Any]:
        """Read samples, best of each shard in their order.

        Raises:
            TrainingError: a shard raised, or does not have as many samples as it says.
        """
        samples: list[Any] = [None] * rows.size
        for at in np.argsort(rows, kind="stable").tolist():
            samples[at] = self._sample(int(rows[at]), epoch, seed or (lambda _: None))
        return samples

    def read_ahead(self, rows: Indices) -> None:
        """Do nothing: a user's code is not run on a thread."""

    block_rows = 1
    samples = True

    def name_row(self, row: int) -> str:
        """Name a row for messages."""
        shard, place = self.locate(row)
        return f"sample {place:,} of shard {shard}"

    def locate(self, row: int) -> tuple[int, int]:
        """Return the shard of a sample, and its place there."""
        shard = int(np.searchsorted(self._ends, row, side="right"))
        return shard, row - int(self._ends[shard] - self.shard_lengths[shard])

    def _sample(self, row: int, epoch: int, seed: Callable[[int], None]) -> Any:
        shard, place = self.locate(row)
        first = row - place
        passed = self._pass(shard, place, epoch, lambda at: seed(first + at))
        while True:
            seed(first + passed.next)
            sample = self._next(shard, passed)
            if sample is _END:
                raise self._refused(shard, f"ended after {passed.next:,} samples")
            passed.next += 1
            if passed.next > place:
                break
        if passed.next == self.shard_lengths[shard]:
            self._refuse_more(shard, passed)
        return sample

    def _pass(self, shard: int, place: int, epoch: int, seed: Callable[[int], None]) -> _Pass:
        """Return a way through a shard that has not gone beyond a place."""
        if self._owner != os.getpid():  # what was opened before a fork shares its place in a file
            self._passes, self._owner = {}, os.getpid()
        passed = self._passes.get(shard)
        seeks = hasattr(self.shards[shard], SEEK)
        if passed is not None and passed.epoch == epoch:
            ahead = place - passed.next
            if ahead >= 0 and (not seeks or ahead < _SKIPPED):
                return passed
        begin = place if seeks else 0
        seed(begin)
        passed = self._passes[shard] = _Pass(self._opened(shard, begin, epoch), epoch, begin)
        return passed

    def _opened(self, shard: int, begin: int, epoch: int) -> Iterator[Any]:
        iterable = self.shards[shard]
        with self._own_errors(shard, begin), _no_worker():
            if hasattr(iterable, "set_epoch"):
                iterable.set_epoch(epoch)
            found: Iterator[Any] = iter(getattr(iterable, SEEK)(begin) if begin else iterable)
        if found is iterable:
            what = (
                f"shard {shard} is of type {type(iterable).__name__}, which can be passed through only once"
            )
            raise TrainingError(what, "return an object whose __iter__ begins anew")
        return found

    def _next(self, shard: int, passed: _Pass) -> Any:
        with self._own_errors(shard, passed.next), _no_worker():
            return next(passed.iterator, _END)

    def _refuse_more(self, shard: int, passed: _Pass) -> None:
        """Let go of a shard whose last sample was read, and see that it is the last."""
        del self._passes[shard]
        if self._next(shard, passed) is not _END:
            raise self._refused(shard, "yields more")

    def _refused(self, shard: int, what: str) -> TrainingError:
        said = f"shard {shard} {what}, and says that it has {int(self.shard_lengths[shard]):,}"
        return TrainingError(said, _HINT)

    @contextmanager
    def _own_errors(self, shard: int, place: int) -> Iterator[None]:
        try:
            yield
        except LockstepError:
            raise
        except MemoryError as error:
            what = f"shard {shard}: out of memory while sample {place:,} of it was read"
            raise MemoryLimitError(what, "read less at once") from error
        except (Exception, SystemExit) as error:
            what = f"shard {shard} raised {type(error).__name__} at its sample {place:,}: {error}"
            raise raised_at_its_line(what, error) from error


@contextmanager
def _no_worker() -> Iterator[None]:
    """Hide from a user's code that it runs in a worker of torch's: it would leave out what other workers are to read.

    Which samples a shard has must not depend on how many workers there are.
    """
    from torch.utils.data._utils import worker

    known = worker._worker_info  # noqa: SLF001 - there is no public way to set it
    worker._worker_info = None  # noqa: SLF001
    try:
        yield
    finally:
        worker._worker_info = known  # noqa: SLF001


def first_rows(lengths: Indices, shards: int, each: int) -> list[int]:
    """Return samples that are cheap to read: the first ones of some shards, in their order.

    Args:
        lengths: of all shards, int64 [shards].
        shards: how many of them, at most.
        each: samples of each, at most.
    """
    starts = np.cumsum(lengths) - lengths
    chosen = np.flatnonzero(lengths)[:shards].tolist()
    return [int(starts[one]) + at for one in chosen for at in range(min(each, int(lengths[one])))]

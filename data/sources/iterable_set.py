"""What makes a user's iterables a set of samples: shards that do not depend on who reads them, and their lengths."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ..common import TrainingError, UsageError, definition_location
from ..config import DataConfig
from ..order import Indices, InterleavedOrder, measure_shuffle
from ..samples import SampleSource, run_user_code, sample_hashes
from .iterable_rows import SEEK, IterableRows, first_rows

SHARD = "__lockstep_shard__"
_ONE_BY_ONE = ("collate", "pad")
_OF_NUMBERED = ("val_size", "fold", "weights", "balance", "epoch_size", "group", "stratify")
"""Settings that choose samples by their numbers."""
_LOOKED_AT = (4, 2)
"""Shards, and samples of each, that stand for all."""


def as_iterable_rows(config: DataConfig, name: str, split: Any) -> Any:
    """Make one set of an object with ``__lockstep_shard__`` or of a list of iterables; return anything else as it is.

    Raises:
        TrainingError: a shard is not an iterable, or does not say how long it is.
    """
    use = config.use
    if hasattr(split, SHARD):
        count = config.iterable_shards
        shards = [
            run_user_code(use, partial(getattr(split, SHARD), number, count)) for number in range(count)
        ]
    elif isinstance(split, list | tuple) and split and all(map(_is_iterable, split)):
        shards = list(split)
    else:
        return split
    lengths = [_length(use, name, number, shard) for number, shard in enumerate(shards)]
    return IterableRows(shards, np.array(lengths, np.int64))


def _is_iterable(value: Any) -> bool:
    from torch.utils.data import IterableDataset

    return isinstance(value, IterableDataset) or (
        hasattr(value, "__iter__") and not hasattr(value, "__getitem__")
    )


def _length(use: str, name: str, number: int, shard: Any) -> int:
    which = f"shard {number} of {name!r}"
    if not hasattr(shard, "__iter__"):
        raise TrainingError(
            f"{use} returned {type(shard).__name__} for {which}, not an iterable",
            f"return an object with __iter__ and __len__ from {SHARD}",
        )
    if not hasattr(shard, "__len__"):
        raise TrainingError(
            f"{use}: {which}, of type {type(shard).__name__}, has no __len__: where an epoch ends, and which samples a"
            " resumed run has seen, follow from how many samples each shard has",
            "give it a __len__; of an endless one, let each pass end after some samples",
        )
    return int(run_user_code(use, partial(len, shard)))


def refuse_settings(config: DataConfig, rows: Any, returned: Any) -> None:
    """Refuse what needs samples with numbers, or whole batches, of iterables.

    Args:
        config: the ``data`` section.
        rows: the training samples.
        returned: ``UserSettings``, which ``data()`` has returned.
    """
    if not isinstance(rows, IterableRows):
        return
    for key in _OF_NUMBERED:
        if getattr(config, key):
            raise UsageError(
                f"data.{key}: the samples of an iterable come in its own order, each once in an epoch",
                'return "val" of its own' if key in ("val_size", "fold") else "leave it out",
            )
    for key in _ONE_BY_ONE:
        if getattr(config, key) or getattr(returned, key):
            raise UsageError(
                f"data.{key}: a batch of iterables is put together of what several workers have read",
                "yield samples of one shape; data.pack makes them of documents",
            )
    if returned.columns:
        raise UsageError(
            f"{config.use} returned {next(iter(returned.columns))!r} besides an iterable, whose samples come in its own"
            " order, each once in an epoch",
            "leave it out",
        )
    if config.on_bad == "skip":
        raise UsageError("data.on_bad: skip: an iterable that raises is at its end", "leave it out")


def iterable_contents(use: str, rows: IterableRows) -> list[Any]:
    """Return what stands for the samples: the lengths of all shards, and the first samples of some.

    They are looked at twice, shard by shard and in turn: what a reader sees must not depend on what it has read.

    Raises:
        TrainingError: they were others on the second look, or where a shard was sought.
    """
    chosen = first_rows(rows.shard_lengths, *_LOOKED_AT)
    looks = [chosen, sorted(chosen, key=lambda row: rows.locate(row)[1])]
    first, second = (dict(zip(look, sample_hashes(use, _fresh(rows), look), strict=True)) for look in looks)
    for row in chosen:
        if first[row] != second[row]:
            raise _changing(rows, row, "was another one on a second pass")
        shard, place = rows.locate(row)
        seeks = place > 0 and hasattr(rows.shards[shard], SEEK)
        if seeks and sample_hashes(use, _fresh(rows), [row]) != [first[row]]:
            raise _changing(rows, row, f"was another one after {SEEK}({place})")
    return [rows.shard_lengths.tolist(), [first[row] for row in chosen]]


def _changing(rows: IterableRows, row: int, what: str) -> TrainingError:
    return TrainingError(
        f"{rows.name_row(row)} {what}{f' ({where})' if (where := made_at(rows)) else ''}",
        "let each pass begin anew: open files and seed generators in __iter__, and share none between shards",
    )


def _fresh(rows: IterableRows) -> IterableRows:
    return IterableRows(rows.shards, rows.shard_lengths)


def reader_of(rows: IterableRows) -> tuple[IterableRows, SampleSource]:
    """Return what a feed reads from, and what its samples are called."""
    return _fresh(rows), SampleSource("data sample", made_at(rows))


def made_at(rows: IterableRows) -> str:
    """Return where samples are made, as FILE:LINE."""
    return definition_location(type(rows.shards[0]).__iter__)


def iterable_notes(rows: Any, batch_size: int) -> list[str]:
    """Say what the order of iterables is, how far it is from a full shuffle, and what resuming costs.

    Args:
        rows: the training samples; of anything but iterables there is nothing to say.
        batch_size: of the global batch.
    """
    if not isinstance(rows, IterableRows):
        return []
    full = int((rows.shard_lengths > 0).sum())
    seeks = all(hasattr(shard, SEEK) for shard in rows.shards)
    resumed = (
        "a resumed run seeks its place in each"
        if seeks
        else f"a resumed run passes through each up to its place, as it has no {SEEK}(position)"
    )
    what = (
        f"{full:,} iterable shard{'s' if full > 1 else ''}: each batch takes samples of all of them, in the order in"
        f" which they are yielded; {resumed}"
    )
    quality = measure_shuffle(InterleavedOrder(rows.shard_lengths, batch_size), batch_size)
    sorted_by_class = (
        f"were the samples sorted by class, shard after shard, the counts of classes would vary {quality} as much as"
        " under a full permutation; within a shard only its own __iter__ shuffles"
    )
    return [what, sorted_by_class]


def lengths_of(rows: Any) -> tuple[int, ...] | None:
    """Return the length of each shard; None where the samples are not iterables'."""
    return tuple(rows.shard_lengths.tolist()) if isinstance(rows, IterableRows) else None


def as_indices(lengths: tuple[int, ...]) -> Indices:
    """Make an array of lengths."""
    return np.array(lengths, np.int64)

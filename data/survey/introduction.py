"""A data set introduces itself: what is found out about it before the ranks start, and what is suspicious."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from ..config import DataLook, DatasetInfo, SplitInfo
from ..sources import Reader, Which, as_indices, first_rows
from .sample_look import MOST, look_at_split
from .shared_samples import shared_notes
from .suspicions import class_notes, value_notes

SPLITS: tuple[Which, ...] = ("train", "val")


def introduce(
    facts: DatasetInfo,
    reader: Callable[[Which], Reader],
    inputs: Callable[[Which], NDArray[Any] | None],
    *,
    skip: bool = False,
) -> DatasetInfo:
    """Add to what is known of a data set what a look at some of its samples shows.

    Args:
        facts: of the data set, its splits as they will be trained on.
        reader: opens a split that is there, to read single samples.
        inputs: returns all inputs of a split where they are held as an array.
        skip: bad samples are skipped.
    """
    train = look_at_split(*reader("train"), skip=skip, rows=_cheap_rows(facts.train))
    val = None if facts.val is None else look_at_split(*reader("val"), skip=skip, rows=_cheap_rows(facts.val))
    arrays = [] if val is None else [array for which in SPLITS if (array := inputs(which)) is not None]
    shared = shared_notes(*arrays) if len(arrays) == len(SPLITS) else []
    notes = (*class_notes(facts), *value_notes(train, val), *shared)
    return replace(facts, look=DataLook(train, val, notes))


def _cheap_rows(info: SplitInfo) -> list[int] | None:
    """Choose the first samples of iterables, which are read up to what is asked for; None: any sample is as cheap."""
    return None if info.shard_lengths is None else first_rows(as_indices(info.shard_lengths), MOST // 2, 2)

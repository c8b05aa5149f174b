"""Rows of a set that name one file: within training, and in training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class FileRows(NamedTuple):
    """The rows of a split."""

    files: NDArray[np.uint64]
    """A number for each row's file, the same for each of its names and links."""
    labels: NDArray[np.int64]
    paths: Sequence[str]


def duplicate_notes(
    train: FileRows, val: FileRows | None, names: Sequence[str], *, split_off: bool
) -> list[str]:
    """Say how many rows name a file again, and which file has several labels.

    Args:
        train: the training rows.
        val: the validation rows, if they are listed in a file of their own.
        names: of the classes.
        split_off: validation will be drawn from ``train``.
    """
    notes = []
    order = np.argsort(train.files, kind="stable")
    starts = _group_starts(train.files[order])
    if repeated := len(order) - len(starts):
        mixed = "; data.val_size may put one into training and one into validation" if split_off else ""
        notes.append(f"{_rows(repeated, 'training')} a file that another one names, too{mixed}")
        notes += _conflict_note(train, order, starts, names)
    if val is not None and (shared := int(np.isin(val.files, train.files).sum())):
        notes.append(f"{_rows(shared, 'validation')} a file that is trained on")
    return notes


def _group_starts(ordered: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])).astype(np.int64)


def _conflict_note(
    rows: FileRows, order: NDArray[np.int64], starts: NDArray[np.int64], names: Sequence[str]
) -> list[str]:
    labels = rows.labels[order]
    low, high = np.minimum.reduceat(labels, starts), np.maximum.reduceat(labels, starts)
    groups = np.flatnonzero(low != high)
    if not len(groups):
        return []
    first = int(groups[np.argmin(order[starts[groups]])])
    path = rows.paths[int(order[starts[first]])]
    files = "1 of these files has" if len(groups) == 1 else f"{len(groups):,} of these files have"
    return [f"{files} several labels: {path} is {names[int(low[first])]} and {names[int(high[first])]}"]


def _rows(count: int, which: str) -> str:
    return f"{count:,} {which} {'row names' if count == 1 else 'rows name'}"

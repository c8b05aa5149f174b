"""A look at some samples of a set before anything starts: what all of them are, not what the first one is."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..bad_samples import is_bad_input
from ..common import LockstepError
from ..config import PartLook, SplitLook, ValueKind
from ..order import permute
from .sample_values import SeenValue, sample_values

MOST = 100
"""Samples of a split that are read."""
LEAST = 12
"""Samples that are read however long it takes, the first and the last among them."""
SECONDS = 1.0
"""After which no further sample of a split is read: what it costs to read one is up to the set."""
_SAMPLE_KEY = (0x6C6F6F6B, 0)  # "look" in ASCII


def look_at_split(
    length: int, read: Callable[[int], Any], *, skip: bool = False, rows: list[int] | None = None
) -> SplitLook:
    """Read a fixed sample of a split and say what its values are.

    Args:
        length: of the split.
        read: returns one of its samples.
        skip: continue where one is bad.
        rows: what to read where not every sample is as cheap to read.
    """
    seen, unreadable = _read(chosen_rows(length) if rows is None else rows, read, skip=skip)
    return SplitLook(len(seen), length, unreadable, _parts(seen))


def chosen_rows(length: int) -> list[int]:
    """Choose the samples that are looked at, the first and the last among them, in an order that is no order."""
    keyed = permute(np.arange(min(MOST, length), dtype=np.int64), length, _SAMPLE_KEY).tolist()
    return list(dict.fromkeys([0, length - 1, *keyed]))[: min(MOST, length)]


def _read(
    rows: Iterable[int], read: Callable[[int], Any], *, skip: bool
) -> tuple[list[list[SeenValue]], int]:
    seen: list[list[SeenValue]] = []
    unreadable = 0
    stop = time.monotonic() + SECONDS
    for row in rows:
        try:
            seen.append(sample_values(read(row)))
        except LockstepError as error:
            if not skip or not is_bad_input(error):
                raise
            unreadable += 1
        except (Exception, SystemExit):  # noqa: BLE001 - whatever it raises is named when it is trained on
            unreadable += 1
        if len(seen) + unreadable >= LEAST and time.monotonic() > stop:
            break
    return seen, unreadable


def _parts(seen: list[list[SeenValue]]) -> tuple[PartLook, ...]:
    by_name: dict[str, list[SeenValue]] = defaultdict(list)
    for values in seen:
        for value in values:
            by_name[value.name].append(value)
    return tuple(_part(name, values) for name, values in by_name.items())


def _part(name: str, values: list[SeenValue]) -> PartLook:
    kinds: dict[tuple[str, int], list[tuple[int, ...]]] = defaultdict(list)
    for value in values:
        kinds[value.type, len(value.shape)].append(value.shape)
    lows, highs = ([number for v in values if (number := end(v)) is not None] for end in (_low, _high))
    return PartLook(
        name,
        tuple(
            ValueKind(type_, tuple((min(axis), max(axis)) for axis in zip(*shapes, strict=True)), len(shapes))
            for (type_, _), shapes in sorted(kinds.items(), key=lambda kind: -len(kind[1]))
        ),
        min(lows, default=None),
        max(highs, default=None),
        sum(not value.finite for value in values),
        _labels(values),
    )


def _labels(values: list[SeenValue]) -> tuple[tuple[int, int], ...]:
    """Count whole numbers of shape []; nothing where some values are something else."""
    if not all(not value.shape and value.type.startswith(("int", "uint", "bool")) for value in values):
        return ()
    return tuple(sorted(Counter(int(value.low) for value in values if value.low is not None).items()))


def _low(value: SeenValue) -> float | None:
    return value.low


def _high(value: SeenValue) -> float | None:
    return value.high

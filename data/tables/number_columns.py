"""Columns of numbers, out of what pandas makes of a CSV's fields."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MISSING = (
    "", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "none",
)  # fmt: skip
"""Fields without a value, as spreadsheets and programs write them."""
WORDS = {"true": 1.0, "false": 0.0}
"""Fields that are numbers, in any case of letters."""
_NUMBERS = "biuf"


class BadField(NamedTuple):
    """A field that is not a number."""

    row: int
    column: str
    text: str


def number_of(text: str, decimal: str) -> float | None:
    """Read a field: NaN where its value is missing, 1 and 0 for true and false; None where it is not a finite number.

    Args:
        text: of the field.
        decimal: the character before a fraction.
    """
    text = text.strip()
    if text in MISSING:
        return math.nan
    if (word := WORDS.get(text.lower())) is not None:
        return word
    if not text.isascii() or "_" in text or (decimal == "," and "." in text):
        return None  # Python reads 1_000 and digits of other scripts
    try:
        number = float(text.replace(",", ".") if decimal == "," else text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def read_numbers(
    frame: Any, places: Mapping[str, int], first: int, decimal: str
) -> tuple[NDArray[np.float64], list[BadField]]:
    """Convert columns of a part of a file.

    Args:
        frame: the part, as pandas has read it.
        places: of the columns in it, by name.
        first: row of the part in the file.
        decimal: the character before a fraction.

    Returns:
        float64 [rows, columns], NaN where a value is missing or is not a number; and the fields that are none.
    """
    values = np.empty((len(frame), len(places)))
    bad: list[BadField] = []
    for at, (name, place) in enumerate(places.items()):
        column = frame.iloc[:, place]
        values[:, at], wrong = _numbers(column, decimal)
        bad += [BadField(first + row, name, str(column.iloc[row])) for row in wrong.tolist()]
    return values, bad


def _numbers(column: Any, decimal: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Convert a column to float64, and return the rows that hold something else.

    A part in which one field is not a number comes as texts; each is read for itself, so that it does not matter
    where a file is cut into parts.
    """
    if column.dtype.kind in _NUMBERS:
        values = column.to_numpy(np.float64)
        return values, np.flatnonzero(np.isinf(values))
    read = [
        math.nan if missing else number_of(str(value), decimal)
        for value, missing in zip(column.tolist(), column.isna().tolist(), strict=True)
    ]
    values = np.array([math.nan if number is None else number for number in read])
    return values, np.array([row for row, number in enumerate(read) if number is None], np.int64)

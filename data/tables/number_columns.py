"""Columns of numbers, out of what pandas makes of a CSV's fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MISSING = (
    "", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "none",
)  # fmt: skip
"""Fields without a value, as spreadsheets and programs write them."""
_NUMBERS = "biuf"


class BadField(NamedTuple):
    """A field that is no number."""

    row: int
    column: str
    text: str


def read_numbers(
    frame: Any, places: Mapping[str, int], first: int
) -> tuple[NDArray[np.float64], list[BadField]]:
    """Convert columns of a part of a file.

    Args:
        frame: the part, as pandas has read it.
        places: of the columns in it, by name.
        first: row of the part in the file.

    Returns:
        float64 [rows, columns], NaN where a value is missing or is no number; and the fields that are none.
    """
    values = np.empty((len(frame), len(places)))
    bad: list[BadField] = []
    for at, (name, place) in enumerate(places.items()):
        column = frame.iloc[:, place]
        values[:, at], wrong = _numbers(column)
        bad += [BadField(first + row, name, str(column.iloc[row])) for row in wrong.tolist()]
    return values, bad


def _numbers(column: Any) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Convert a column to float64, and return the rows that hold something else."""
    import pandas as pd

    if column.dtype.kind in _NUMBERS:
        values = column.to_numpy(np.float64)
        return values, np.flatnonzero(np.isinf(values))
    present = ~column.isna().to_numpy()
    words = column.map({True: 1.0, False: 0.0, "True": 1.0, "False": 0.0}, na_action="ignore")
    found = words if not (words.isna().to_numpy() & present).any() else pd.to_numeric(column, errors="coerce")
    values = found.to_numpy(np.float64, na_value=np.nan)
    return values, np.flatnonzero(present & ~np.isfinite(values))

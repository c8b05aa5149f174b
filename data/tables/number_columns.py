"""Columns of numbers, out of what pandas makes of a CSV's fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..common import UsageError
from ..sources import CsvFile

MISSING = (
    "", "NA", "N/A", "n/a", "<NA>", "#N/A", "NaN", "nan", "-NaN", "-nan", "NULL", "null", "None", "none",
)  # fmt: skip
"""Fields without a value, as spreadsheets and programs write them."""
_NUMBERS = "biuf"
_COMMA_HINT = (
    "remove the commas between thousands, or, where they stand before the fraction, set data.args.decimal"
)


class BadField(NamedTuple):
    """A field that is no number."""

    row: int
    column: str
    text: str


def read_numbers(
    frame: Any, csv: CsvFile, names: Sequence[str], first: int
) -> tuple[NDArray[np.float64], list[BadField]]:
    """Convert columns of a part of a file.

    Args:
        frame: the part, as pandas has read it.
        csv: the file.
        names: of the columns.
        first: row of the part in the file.

    Returns:
        float64 [rows, columns], NaN where a value is missing or is no number; and the fields that are none.
    """
    values = np.empty((len(frame), len(names)))
    bad: list[BadField] = []
    for place, name in enumerate(names):
        column = frame.iloc[:, csv.names.index(name)]
        values[:, place], wrong = _numbers(column)
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


def bad_fields_error(csv: CsvFile, bad: Sequence[BadField], rows: int) -> Exception:
    """Say which fields are no numbers: by their columns where these hold texts, else by their lines.

    Args:
        csv: the file.
        bad: those of the rows that have been read.
        rows: how many have been.
    """
    counts = {name: sum(field.column == name for field in bad) for name in {field.column for field in bad}}
    texts = [name for name in csv.names if counts.get(name, 0) > rows // 2]
    commas = any("," in field.text for field in bad)
    if texts and not commas:
        example = next(field for field in bad if field.column == texts[0])
        more = f", and so do {', '.join(map(repr, texts[1:]))}" if texts[1:] else ""
        return UsageError(
            f"{csv.file}: column {texts[0]!r} holds texts such as {example.text!r}{more}",
            "name columns of numbers in data.args.input",
        )
    found = [
        (field.row, f"column {field.column!r} holds {field.text!r}, which is no finite number")
        for field in bad
    ]
    return csv.bad_rows_error(found, _COMMA_HINT if commas else "correct these rows, or remove them")

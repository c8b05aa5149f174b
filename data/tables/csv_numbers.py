"""The numbers of a CSV file as arrays on the disk: read in parts, so that memory does not grow with the rows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common import UsageError
from ..sources import CsvFile, read_chunks
from .number_columns import MISSING, BadField, read_numbers

ROWS = 2**17
"""Rows that are in memory at once."""
_EXACT_PANDAS = (3, 1)
_COMMA_HINT = (
    "remove the commas between thousands, or, where they stand before the fraction, set data.args.decimal"
)
Floats = NDArray[np.float64]
TargetTaker = tuple[str, Callable[[Any], None]]
"""A column's name, and what is called with each part of it."""


@dataclass
class ColumnSums:
    """Sums over each column's values, missing ones left out."""

    count: NDArray[np.int64]
    mean: Floats
    squares: Floats
    """Sums of the squared differences from the mean."""
    low: Floats
    high: Floats
    counts: NDArray[np.bool_]
    """Which columns count the rows: each value is greater by 1 than the one before."""

    @classmethod
    def of(cls, values: Floats) -> ColumnSums:
        """Look at the values [rows, columns] of one part."""
        present = ~np.isnan(values)
        count = present.sum(0)
        mean = np.where(present, values, 0.0).sum(0) / np.maximum(count, 1)
        with np.errstate(over="ignore"):  # what is too large is refused where it is used
            squares = (np.where(present, values - mean, 0.0) ** 2).sum(0)
        low = np.where(present, values, np.inf).min(0, initial=np.inf)
        high = np.where(present, values, -np.inf).max(0, initial=-np.inf)
        with np.errstate(over="ignore"):
            return cls(count, mean, squares, low, high, (values[1:] - values[:-1] == 1).all(0))

    def __add__(self, other: ColumnSums) -> ColumnSums:
        """Join two parts, as Chan, Golub and LeVeque do."""
        count = self.count + other.count
        with np.errstate(over="ignore", invalid="ignore"):
            return self._joined(other, count)

    def _joined(self, other: ColumnSums, count: NDArray[np.int64]) -> ColumnSums:
        step = (other.mean - self.mean) * other.count / np.maximum(count, 1)
        between = (other.mean - self.mean) * step * self.count
        return ColumnSums(
            count,
            self.mean + step,
            self.squares + other.squares + between,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.counts & other.counts & (other.low == self.high + 1),
        )

    @property
    def largest(self) -> Floats:
        """Return the largest value of each column, by absolute value; 0 of one that has none."""
        return np.where(self.count > 0, np.maximum(np.abs(self.low), np.abs(self.high)), 0.0)

    @property
    def constant(self) -> NDArray[np.bool_]:
        """Tell which columns have one value alone: rounding may leave them a deviation that is not 0."""
        return self.low >= self.high

    @property
    def std(self) -> Floats:
        """Return the standard deviation of each column, by n."""
        return np.sqrt(self.squares / np.maximum(self.count, 1))


@dataclass
class RawColumns:
    """Columns of one file as float64, the way they stand in it."""

    file: Path
    """float64 [rows, columns], without a header."""
    columns: int
    rows: int = 0
    sums: ColumnSums | None = None
    missing: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Column to how many of its values are missing, and the first such row."""

    def parts(self) -> Iterator[Floats]:
        """Read them again."""
        count = ROWS * self.columns
        with self.file.open("rb") as stream:
            while (values := np.fromfile(stream, np.float64, count)).size:
                yield values.reshape(-1, self.columns)


def extract_columns(
    csv: CsvFile, names: Sequence[str], decimal: str, file: Path, target: TargetTaker | None
) -> RawColumns:
    """Read columns of numbers into a file.

    Args:
        csv: whose columns they are.
        names: of the columns.
        decimal: what stands before the fraction.
        file: to write.
        target: one more column, and what takes its parts as texts.

    Raises:
        UsageError: a column holds texts.
        DamagedError: a field is not a number, or a line has too many fields.
    """
    found = RawColumns(file, len(names))
    places = {name: csv.names.index(name) for name in names}
    label = None if target is None else csv.names.index(target[0])
    with file.open("wb") as stream:
        for frame in read_chunks(csv, ROWS, **_parser_options(csv, decimal, label)):
            if target is not None:
                target[1](frame.iloc[:, label])
            values, bad = read_numbers(frame, places, found.rows, decimal)
            if bad:
                raise _bad_fields_error(csv, names, bad, len(frame))
            _note_missing(found, values, names)
            stream.write(values.data)
            sums = ColumnSums.of(values)
            found.sums = sums if found.sums is None else found.sums + sums
            found.rows += len(values)
    return found


def _bad_fields_error(csv: CsvFile, names: Sequence[str], bad: Sequence[BadField], rows: int) -> Exception:
    """Say which fields are not numbers: by their columns where these hold texts, else by their lines.

    Args:
        csv: the file.
        names: of the columns that were read.
        bad: those of the rows that have been read.
        rows: how many have been.
    """
    counts = {name: sum(field.column == name for field in bad) for name in {field.column for field in bad}}
    texts = [name for name in csv.names if counts.get(name, 0) > rows // 2]
    commas = any("," in field.text for field in bad)
    if texts and not commas:
        example = next(field for field in bad if field.column == texts[0])
        more = f", and so do {', '.join(map(repr, texts[1:]))}" if texts[1:] else ""
        numbers = ",".join(name for name in names if name not in texts)
        return UsageError(
            f"{csv.file}: column {texts[0]!r} holds texts such as {example.text!r}{more}",
            f"name columns of numbers: 'data.args.input=[{numbers}]'" if numbers else "name another column",
        )
    found = [
        (field.row, f"column {field.column!r} holds {field.text!r}, which is not a finite number")
        for field in bad
    ]
    return csv.bad_rows_error(found, _COMMA_HINT if commas else "correct these rows, or remove them")


def _parser_options(csv: CsvFile, decimal: str, label: int | None) -> dict[str, Any]:
    """Return pandas' options; ``label`` is the place of a column that is read as texts."""
    missing = {place: [] if place == label else list(MISSING) for place in range(len(csv.names))}
    return {
        "header": 0,
        "names": list(missing),
        "dtype": {} if label is None else {label: str},
        "na_values": missing,
        "keep_default_na": False,
        "decimal": decimal,
        "low_memory": False,
        **_exact_numbers(),
    }


def _exact_numbers() -> dict[str, str]:
    """Ask pandas before 3.1 for a parser of numbers that is right to the last bit; later ones have no other."""
    import pandas as pd

    version = tuple(map(int, pd.__version__.split(".")[:2]))
    return {"float_precision": "round_trip"} if version < _EXACT_PANDAS else {}


def _note_missing(found: RawColumns, values: Floats, names: Sequence[str]) -> None:
    absent = np.isnan(values)
    for place in np.flatnonzero(absent.any(0)).tolist():
        count, first = found.missing.get(names[place], (0, found.rows + int(absent[:, place].argmax())))
        found.missing[names[place]] = (count + int(absent[:, place].sum()), first)


def missing_error(csv: CsvFile, raw: RawColumns, *, can_fill: bool) -> UsageError:
    """Say in which columns values are missing."""
    shown = [
        f"column {name!r} has no value in {count:,} of {raw.rows:,} rows, the first in line {csv.line_of(first)}"
        for name, (count, first) in list(raw.missing.items())[:3]
    ]
    more = [f"and {len(raw.missing) - 3} more columns"] if len(raw.missing) > 3 else []  # noqa: PLR2004 - as above
    hint = (
        "data.args.fill_missing=mean (or a number) fills them; or remove these rows, or leave out the column"
    )
    return UsageError(
        "\n".join([f"{csv.file}: {shown[0]}", *shown[1:], *more]), hint if can_fill else "remove these rows"
    )


def write_array(
    file: Path,
    raw: RawColumns,
    dtype: str,
    columns: slice,
    fill: Floats | None,
    scale: tuple[Floats, Floats] | None,
) -> None:
    """Write some of the columns as an ``.npy`` file [rows, columns].

    Args:
        file: to write.
        raw: what was read.
        dtype: of the array.
        columns: to write.
        fill: what stands for missing values, by column of ``raw``.
        scale: what is subtracted from each column, and what it is divided by after that.
    """
    # Not a memory map: on a full disk, writing to one ends the process.
    head = {
        "descr": np.dtype(dtype).str,
        "fortran_order": False,
        "shape": (raw.rows, columns.stop - columns.start),
    }
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, head)
        for part in raw.parts():
            values = (part if fill is None else np.where(np.isnan(part), fill, part))[:, columns]
            if scale is not None:
                values = (values - scale[0]) / scale[1]
            stream.write(np.ascontiguousarray(values, dtype).data)
        stream.flush()
        os.fsync(stream.fileno())

"""The CSV files of ``csv_images``: their separator, their two columns, and which classes the labels are."""

from __future__ import annotations

import csv
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common import DamagedError, UsageError, suggestion

_MAX_SHOWN_ROWS = 3  # bad rows that a message quotes
MAX_LISTED_NAMES = 20  # names that a message lists
_MAX_NOTED_NAMES = 5
SEPARATORS = (",", ";", "\t", "|")
_NAMED = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True)
class Table:
    """The two columns of a CSV."""

    file: Path
    paths: list[str]
    labels: list[str]
    separator: str = ","

    def bad_rows_error(self, bad: Sequence[tuple[int, str]]) -> DamagedError:
        """Name the lines of the first bad rows, and count the rest; each is (row, what is wrong)."""
        last = bad[min(len(bad), _MAX_SHOWN_ROWS) - 1][0]
        lines = dict(zip(range(last + 1), _line_numbers(self.file, self.separator), strict=False))
        shown = [
            f"{self.file}:{lines.get(row, row + 2)}: {problem}" for row, problem in bad[:_MAX_SHOWN_ROWS]
        ]
        if len(bad) > _MAX_SHOWN_ROWS:
            shown.append(f"and {len(bad) - _MAX_SHOWN_ROWS} more bad rows")
        return DamagedError("\n".join(shown), "correct these rows, or remove them")


def read_table(file: Path, columns: Sequence[str], separator: str | None) -> Table:
    """Read the columns of paths and labels; blanks around a label are no part of it.

    Args:
        file: in UTF-8, with a header.
        columns: their names.
        separator: between fields; None finds it in the header.

    Raises:
        UsageError: a column is not there, or there twice.
        DamagedError: it is no such file, or has no rows.
    """
    header = _header(file)
    separator = separator or _separator(header, columns)
    names = next(csv.reader([header], delimiter=separator), [])
    for role, column in zip(("path", "label"), columns, strict=True):
        _check_column(file, role, column, names)
    frame = _parse(file, separator)
    paths, labels = (frame[column].tolist() for column in columns)
    if not paths:
        raise DamagedError(f"{file} has no rows", "each line names an image and its label")
    return Table(file, paths, [label.strip() for label in labels], separator)


def _header(file: Path) -> str:
    """Read the first line that is not empty."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return next((line.rstrip("\r\n") for line in stream if line.strip()), "")
    except UnicodeError as error:
        raise _csv_error(file, str(error)) from error


def _separator(header: str, columns: Sequence[str]) -> str:
    """Find the separator with which the header names both columns; a comma where none does."""
    for separator in SEPARATORS:
        if set(columns) <= set(next(csv.reader([header], delimiter=separator), [])):
            return separator
    return SEPARATORS[0]


def _check_column(file: Path, role: str, column: str, header: list[str]) -> None:
    if header.count(column) == 1:
        return
    if column in header:
        raise UsageError(
            f"{file} has {header.count(column)} columns {column!r}",
            f"rename all but one of them, or name another one in data.args.{role}_column",
        )
    if header:  # else it is empty, which pandas says
        raise UsageError(
            f"{file} has no column {column!r}{suggestion(column, header)}",
            f"its columns are {', '.join(header[:MAX_LISTED_NAMES])}; name one in data.args.{role}_column",
        )


def _parse(file: Path, separator: str) -> Any:
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Not usecols, with which pandas drops surplus fields without a word.
            return pd.read_csv(
                file, sep=separator, dtype=str, na_filter=False, index_col=False, encoding="utf-8-sig"
            )
    except pd.errors.ParserWarning as error:
        raise _csv_error(file, "line 2 has more fields than line 1") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError) as error:
        reason = str(error).replace("Error tokenizing data. C error: ", "").strip()
        raise _csv_error(file, re.sub(r"row (\d+)", lambda row: f"line {int(row[1]) + 1}", reason)) from error


def _csv_error(file: Path, reason: str) -> DamagedError:
    return DamagedError(f"{file}: not a CSV file in UTF-8: {reason}", "correct that line")


def _line_numbers(file: Path, separator: str) -> Iterator[int]:
    """Yield the line on which each data row starts; pandas skips empty lines and quoted fields may span several."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=separator)
        start = 1
        header = True
        for row in reader:
            if row and not (len(row) == 1 and not row[0].strip()):
                if not header:
                    yield start
                header = False
            start = reader.line_num + 1


def class_names(table: Table) -> tuple[str, ...]:
    """List the labels of the training file, numbers in their order; 0, 1, 2 … without a gap are their own indices.

    Raises:
        UsageError: the labels are quantities.
    """
    names = set(table.labels) - {""}
    numbers = {name: number for name in names if (number := _number(name)) is not None}
    if len(numbers) < len(names) or not names:
        return tuple(sorted(names))
    if broken := [name for name, number in numbers.items() if not number.is_integer()]:
        raise UsageError(
            f"{table.file}: the labels are numbers such as {min(broken)}, which are quantities and no classes",
            "csv_images trains a classifier: for a regression write a data set of your own (`data.use=./file.py:name`);"
            " if these are names of classes, list them in data.args.classes",
        )
    return tuple(sorted(numbers, key=lambda name: (numbers[name], name)))


def _number(label: str) -> float | None:
    try:
        number = float(label)
    except ValueError:
        return None
    plain = label.isascii() and "_" not in label and abs(number) < 2**53  # neither nan nor inf, and exact
    return number if plain else None


def label_notes(table: Table, names: Sequence[str], *, given: bool) -> list[str]:
    """Say what was guessed about the separator and the labels, and what looks like a mistake.

    Args:
        table: of the training split.
        names: of the classes, by index.
        given: the user has listed them.
    """
    notes = []
    if table.separator != SEPARATORS[0]:
        notes.append(
            f"{table.file.name} is separated by {_NAMED.get(table.separator, repr(table.separator))}"
        )
    numbers = [_number(name) for name in names]
    if not given and None not in numbers and list(names) != [str(index) for index in range(len(names))]:
        listed = ", ".join(f"{name} is class {index}" for index, name in enumerate(names[:_MAX_NOTED_NAMES]))
        more = ", …" if len(names) > _MAX_NOTED_NAMES else ""
        notes.append(f"the labels are not 0 to {len(names) - 1}, so they are names: {listed}{more}")
    same = Counter(name.casefold() for name in names)
    if near := sorted(name for name in names if same[name.casefold()] > 1):
        notes.append(f"classes differ in upper and lower case alone: {', '.join(near[:_MAX_NOTED_NAMES])}")
    return notes

"""CSV files: their encoding, their separator and their columns."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..common import DamagedError, UsageError, suggestion

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

_MAX_SHOWN_ROWS = 3  # bad rows that a message quotes
MAX_LISTED_NAMES = 20  # names that a message lists
SEPARATORS = (",", ";", "\t", "|")
_LONGEST_HEADER = 2**20  # characters
_ROWS = 2**18  # that are parsed at once
_LONGEST_FIELD = 2**30  # the module's own limit is 128 KiB, and pandas knows none
_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"),
)  # fmt: skip
_UNPACK = "unpack it, and name the file that is in it"
_EXPORT = "open it and save the sheet as CSV in UTF-8"
_OTHER_FORMATS = (
    (b"\x1f\x8b", "is compressed by gzip", _UNPACK),
    (b"BZh", "is compressed by bzip2", _UNPACK),
    (b"\xfd7zXZ", "is compressed by xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "is compressed by Zstandard", _UNPACK),
    (b"PK\x03\x04", "is an Excel workbook or a zip archive", f"{_EXPORT}, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook", _EXPORT),
    (b"PAR1", "is a Parquet file", "data.use=shards reads it"),
)
"""How files begin that are taken for CSV files, what they are, and what to do."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class CsvFile:
    """A CSV whose header has been read."""

    file: Path
    separator: str
    blanks_follow: bool
    """Whether blanks after a separator are no part of the field."""
    names: tuple[str, ...]
    """Of the columns, without blanks around them."""

    def bad_rows_error(
        self, bad: Sequence[tuple[int, str]], hint: str = "correct these rows, or remove them"
    ) -> DamagedError:
        """Name the lines of the first bad rows, and count the rest; each is (row, what is wrong)."""
        shown = list(self.named_rows(bad[:_MAX_SHOWN_ROWS]).values())
        if len(bad) > _MAX_SHOWN_ROWS:
            more = len(bad) - _MAX_SHOWN_ROWS
            shown.append(f"and {more:,} more bad {'row' if more == 1 else 'rows'}")
        return DamagedError("\n".join(shown), hint)

    def named_rows(self, bad: Sequence[tuple[int, str]]) -> dict[int, str]:
        """Say of each bad row its line, and what is wrong."""
        last = max((row for row, _ in bad), default=-1)
        lines = dict(enumerate(islice(self._line_numbers(), last + 1)))
        return {row: f"{self.file}:{lines.get(row, row + 2)}: {problem}" for row, problem in bad}

    def line_of(self, row: int) -> int:
        """Return the line on which a row starts."""
        return next(islice(self._line_numbers(), row, None), row + 2)

    def _line_numbers(self) -> Iterator[int]:
        """Yield the line on which each data row starts; pandas skips empty lines and quoted fields may span several."""
        with _open(self.file) as stream:
            reader = _reader(stream, self.separator, skip=self.blanks_follow)
            start = 1
            header = True
            for row in reader:
                if not _is_blank(row):
                    if not header:
                        yield start
                    header = False
                start = reader.line_num + 1


@dataclass(frozen=True)
class Table(CsvFile):
    """The columns of labels and, of images, of their paths."""

    paths: list[str]
    labels: list[str]


def open_csv(file: Path, columns: Sequence[str], separator: str | None) -> CsvFile:
    """Read the header.

    Args:
        file: in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, with a header.
        columns: that it must have; by them the separator is found.
        separator: between fields; None finds it in the header.

    Raises:
        DamagedError: it is not such a file.
    """
    head = _head(file)
    found = separator or _separator(head, columns)
    header, blanks_follow = _first_row(head, found)
    return CsvFile(file, found, blanks_follow, tuple(name.strip() for name in header))


def read_table(file: Path, columns: Sequence[str], separator: str | None) -> Table:
    """Read the columns of paths and labels; blanks around a label or a column's name are no part of it.

    Args:
        file: in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, with a header.
        columns: their names.
        separator: between fields; None finds it in the header.

    Raises:
        UsageError: a column is not there, or there twice.
        DamagedError: it is not such a file, or has no rows.
    """
    csv = open_csv(file, columns, separator)
    for role, column in zip(("path", "label"), columns, strict=True):
        _check_column(file, role, column, csv.names)
    paths, labels = _read_texts(csv, columns)
    if not paths:
        raise DamagedError(f"{file} has no rows", "each line names an image and its label")
    return Table(
        file, csv.separator, csv.blanks_follow, csv.names, paths, [label.strip() for label in labels]
    )


def read_column(file: Path, columns: Sequence[str], separator: str | None, name: str, key: str) -> list[str]:
    """Read one more column, as text without blanks around it.

    Args:
        file: as of ``read_table``.
        columns: the two that ``read_table`` is asked for.
        separator: as of ``read_table``.
        name: of the column.
        key: that names it, for messages.

    Raises:
        UsageError: it is not there, or there twice.
    """
    return read_columns(file, columns, separator, [name], key)[0]


def read_columns(
    file: Path, columns: Sequence[str], separator: str | None, wanted: Sequence[str], key: str
) -> list[list[str]]:
    """Read several more columns; arguments as of ``read_column``."""
    csv = open_csv(file, columns, separator)
    for name in wanted:
        check_column(csv, name, key)
    return [[value.strip() for value in values] for values in _read_texts(csv, wanted)]


def check_column(csv: CsvFile, name: str, key: str) -> None:
    """Check that there is one column of a name.

    Raises:
        UsageError: it is not there, or there twice; the message names ``key``.
    """
    if csv.names.count(name) != 1:
        names = csv.names
        what = (
            f"several columns {name!r}" if name in names else f"no column {name!r}{suggestion(name, names)}"
        )
        raise UsageError(
            f"{key}: {csv.file} has {what}",
            f"its columns are {', '.join(names[:MAX_LISTED_NAMES])}{_header_advice(names)}",
        )


def read_chunks(csv: CsvFile, rows: int, **options: Any) -> Iterator[Any]:
    """Read it in parts, as pandas' frames, whose columns are in the order of ``csv.names``.

    Args:
        csv: whose header has been read.
        rows: of a part.
        options: of ``pandas.read_csv``.

    Raises:
        DamagedError: a line has more fields than the header, or it is not in UTF-8.
    """
    import pandas as pd

    with _parser_errors(csv.file), _open(csv.file) as stream:
        yield from pd.read_csv(
            stream,
            sep=csv.separator,
            index_col=False,
            skipinitialspace=csv.blanks_follow,
            chunksize=rows,
            **options,
        )


def _read_texts(csv: CsvFile, columns: Sequence[str]) -> list[list[str]]:
    """Read columns as they are written."""
    texts: list[list[str]] = [[] for _ in columns]
    # Not usecols, with which pandas drops surplus fields without a word.
    for frame in read_chunks(csv, _ROWS, dtype=str, na_filter=False):
        for column, name in zip(texts, columns, strict=True):
            column.extend(frame.iloc[:, csv.names.index(name)].tolist())
    return texts


def _encoding(file: Path) -> str:
    with file.open("rb") as stream:
        start = stream.read(4)
    return next((name for mark, name in _BYTE_ORDER_MARKS if start.startswith(mark)), "utf-8-sig")


def _open(file: Path) -> TextIO:
    """Open it with line ends made alike: behind a blank line that ends in CR, pandas 3.0 takes ``,b`` for ``b,``."""
    return file.open(encoding=_encoding(file))


def _head(file: Path) -> str:
    """Read what the header is in."""
    try:
        with file.open("rb") as binary:
            start = binary.read(8)
        for mark, what, hint in _OTHER_FORMATS:
            if start.startswith(mark):
                raise DamagedError(f"{file} {what}: not a CSV file", hint)
        with _open(file) as stream:
            head = stream.read(_LONGEST_HEADER)
    except UnicodeError as error:
        raise _encoding_error(file, error) from error
    except OSError as error:
        raise DamagedError(
            f"{file} cannot be read: {error.strerror}", "ask its owner for the right to read it"
        ) from error
    if "\0" in head[:1000]:
        raise DamagedError(
            f"{file}: not a CSV file in UTF-8: it holds zero bytes, as UTF-16 without a byte order mark does",
            "save it as UTF-8",
        )
    return head


def _first_row(head: str, separator: str) -> tuple[list[str], bool]:
    """Split the first line that is not blank, and tell whether blanks follow its separators.

    A quoted name may continue in the next line.
    """
    for skip in (False, True):
        rows = _reader(io.StringIO(head), separator, skip=skip)
        row = next((row for row in rows if not _is_blank(row)), [])
        if not any(name.startswith(" ") for name in row):
            break
    return row, skip


def _reader(stream: TextIO, separator: str, *, skip: bool) -> CsvReader:
    csv.field_size_limit(_LONGEST_FIELD)
    return csv.reader(stream, delimiter=separator, skipinitialspace=skip)


def _is_blank(row: list[str]) -> bool:
    """Tell whether it comes from a line that pandas skips."""
    return not row or (len(row) == 1 and not row[0].strip())


def _separator(head: str, columns: Sequence[str]) -> str:
    """Find the separator with which the header names both columns; a comma where none does."""
    for separator in SEPARATORS:
        if set(columns) <= {name.strip() for name in _first_row(head, separator)[0]}:
            return separator
    return SEPARATORS[0]


def _check_column(file: Path, role: str, column: str, header: Sequence[str]) -> None:
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
            f"its columns are {', '.join(header[:MAX_LISTED_NAMES])}; name one in data.args.{role}_column"
            f"{_header_advice(header)}",
        )


def _header_advice(header: Sequence[str]) -> str:
    """Say what stands in the place of a header."""
    if header[0].startswith("#") or header[0].lower().startswith("sep="):
        return "; or remove that line, and the header is first"
    if any(name.lower().endswith(IMAGE_SUFFIXES) for name in header):
        return "; or write a header above the first row, such as path,label"
    return ""


@contextmanager
def _parser_errors(file: Path) -> Iterator[None]:
    """Say in words of ours what pandas finds wrong."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield
    except pd.errors.ParserWarning as error:
        raise _csv_error(file, "line 2 has more fields than line 1") from error
    except UnicodeError as error:
        raise _encoding_error(file, error) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        reason = str(error).replace("Error tokenizing data. C error: ", "").strip()
        raise _csv_error(file, re.sub(r"row (\d+)", lambda row: f"line {int(row[1]) + 1}", reason)) from error


def _csv_error(file: Path, reason: str) -> DamagedError:
    return DamagedError(f"{file}: not a CSV file in UTF-8: {reason}", "correct that line")


def _encoding_error(file: Path, error: UnicodeError) -> DamagedError:
    """Name the first line that is not in UTF-8."""
    reason = str(error)
    if _encoding(file) == "utf-8-sig":
        with file.open("rb") as stream:
            line = next((n for n, text in enumerate(stream, start=1) if not _is_utf8(text)), 1)
        reason = f"line {line} holds other bytes"
    return DamagedError(
        f"{file}: not a CSV file in UTF-8: {reason}",
        "save it as UTF-8; what Windows calls ANSI: `iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW`",
    )


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeError:
        return False
    return True

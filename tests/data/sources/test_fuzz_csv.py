"""CSV text of every kind is refused, or read as Python's own csv module reads it, within a bounded memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import strategies as st

from lockstep.data.common.errors import LockstepError
from lockstep.data.sources.class_labels import class_names, label_notes
from lockstep.data.sources.csv_table import SEPARATORS, Table, read_table
from tests.helpers.fuzz import ALL, SAMPLE, fuzz
from tests.helpers.memory_limit import memory_limit

MEMORY = 2**28
"""Bytes that reading a table of a few kilobytes may take beside what the process has."""
COLUMNS = ["path", "label"]
MARKS = {"utf-8": b"\xef\xbb\xbf", "utf-32": b"\xff\xfe\0\0", "utf-16": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}

words = st.sampled_from(
    ["cat", "dog", " cat", "cat ", "Käse", "NA", "nan", "", "0", "1", "2", "01", "1.0", "0,5", "0.37", "-1", "1e3",
     "a,b", "a;b", "a\tb", "a|b", 'say "x"', '"', "two\nlines", "two\r\nlines", "  ", "\u2028", "\x0b", "True"]
)  # fmt: skip
fields = words | st.text(max_size=6)
paths = st.sampled_from(["a.png", "b/c.png", "d e.png", " f.png", "#g.png", "ä.png"])


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """A table as programs write it, and often with a mistake in it."""
    separator = draw(st.sampled_from(SEPARATORS))
    extra = draw(st.lists(st.sampled_from(["id", "note", "", "x y", "n", "label"]), max_size=2))
    header = draw(st.permutations([*COLUMNS, *extra]))
    text = io.StringIO()
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    ending = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator=ending)
    writer.writerow(header)
    for _ in range(draw(st.integers(1, 6))):
        text.write(draw(st.sampled_from(["", "", "", ending, "  " + ending])))
        writer.writerow([draw(paths if name == "path" else fields) for name in header])
    written = text.getvalue()
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        written = _mistake(draw, written)
    encoding = draw(
        st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "latin-1"])
    )
    return _mistake_in_bytes(draw, written.encode(encoding, "replace"))


def _mistake(draw: st.DrawFn, text: str) -> str:
    """Drop, repeat or insert a character somewhere."""
    place = len(text) - draw(st.integers(0, len(text)))
    put = draw(
        st.sampled_from(
            ["", '"', ",", ";", "\n", "\r", " ", "\t", "\0", "'", "\\", "x", text[place : place + 1] * 2]
        )
    )
    return text[:place] + put + text[place + 1 :]


def _mistake_in_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    if draw(st.integers(0, 5)) or not content:
        return content
    place = draw(st.integers(0, len(content) - 1))
    return content[:place] + draw(st.binary(max_size=2)) + content[place + 1 :]


class Read(NamedTuple):
    """A table as the csv module reads it."""

    rows: list[tuple[str, str]]
    lines: list[int]


def read_by_csv(content: bytes, separator: str) -> Read:
    """Read a table with Python's own module; lines of blanks are none."""
    encoding = next((name for name, mark in MARKS.items() if content.startswith(mark)), "utf-8")
    text = content.removeprefix(MARKS["utf-8"]).decode(encoding.replace("-be", ""))
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    first = next(row for row in csv.reader(io.StringIO(text), delimiter=separator) if not blank(row))
    skip = any(name.startswith(" ") for name in first)
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=skip)
    header: list[str] = []
    found, line = Read([], []), 1
    for row in reader:
        if not header and not blank(row):
            header = [name.strip() for name in row]
        elif not blank(row):
            padded = [*row, *[""] * len(header)]
            found.rows.append(tuple(padded[header.index(name)] for name in COLUMNS))  # type: ignore[arg-type]
            found.lines.append(line)
            assert len(row) <= len(header) or not any(row[len(header) :])
        line = reader.line_num + 1
    return found


def blank(row: Sequence[str]) -> bool:
    """Whether a row comes from a line without anything but blanks."""
    return not row or (len(row) == 1 and not row[0].strip())


def check_is_refused_or_read_alike(file: Path, content: bytes) -> None:
    """Read a file and compare."""
    file.write_bytes(content)
    table: Table | None = None
    with suppress(LockstepError), memory_limit(MEMORY):
        table = read_table(file, COLUMNS, None)
        check_names(table)
    if table is None or "" in table.paths or "" in table.labels:
        return  # refused, here or when the rows are checked
    expected = read_by_csv(content, table.separator)
    assert list(zip(table.paths, table.labels, strict=True)) == [
        (path, label.strip()) for path, label in expected.rows
    ]
    assert [table.line_of(row) for row in range(len(table.paths))] == expected.lines


def check_names(table: Table) -> None:
    """Every label is a class, once."""
    names = class_names(table)
    assert sorted(names) == sorted(set(table.labels) - {""})
    assert all(isinstance(note, str) for note in label_notes(table, names, given=False))


def test_csv_text_is_refused_or_read_as_others_read_it(tmp_path: Path) -> None:
    fuzz(documents(), check_is_refused_or_read_alike, tmp_path / "t.csv", SAMPLE)


@pytest.mark.exhaustive
def test_much_csv_text_is_refused_or_read_as_others_read_it(tmp_path: Path) -> None:
    fuzz(documents(), check_is_refused_or_read_alike, tmp_path / "t.csv", ALL)

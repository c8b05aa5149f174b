"""JSON lines: one row a line, read in parts of about a megabyte that end where a line ends."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .frames import Frame
from .shard_format import (
    MISSING,
    BadRowError,
    OpenShard,
    Place,
    RowGroup,
    ShardChangedError,
    ShardScan,
    StoredFile,
    Values,
)

PART_BYTES = 2**20
_LONGEST_LINE = 2**28
_IN_MEMORY = 2
"""Bytes for one of the file: its lines, and what is parsed of them."""


class JsonLines:
    """The format of ``.jsonl`` files."""

    def scan(self, file: StoredFile) -> ShardScan:
        """Cut the file into parts and count their lines."""
        places: list[Place] = []
        digest = hashlib.blake2b(digest_size=16)
        begin = 0
        with file.open() as opened:
            while part := opened.read(PART_BYTES):
                if not part.endswith(b"\n"):
                    part += opened.readline(_LONGEST_LINE)
                check, rows = zlib.crc32(part), count_lines(part)
                digest.update(check.to_bytes(4, "little") + len(part).to_bytes(8, "little"))
                if rows:
                    places.append(Place(begin, begin + len(part), check, rows))
                begin += len(part)
        return ShardScan(tuple(places), digest.hexdigest(), decoded_bytes=begin * _IN_MEMORY)

    def open(self, file: StoredFile, digest: str, columns: tuple[str, ...] | None) -> OpenShard:  # noqa: ARG002 - ShardFormat
        """Open nothing yet: each part has a checksum."""
        return _OpenLines(file, columns)


@dataclass(frozen=True)
class _OpenLines:
    file: StoredFile
    columns: tuple[str, ...] | None

    def read(self, place: Place) -> RowGroup:
        part = place.read_from(self.file)
        if zlib.crc32(part) != place.check:
            raise ShardChangedError("its bytes are not those that were indexed")
        return LineGroup(part, self.columns)


@dataclass(frozen=True)
class CompressedLines:
    """The format of compressed JSON lines.

    A part is one or more frames that hold whole lines. A file that was compressed in one piece, as ``gzip`` and
    ``zstd`` do, is one part: nobody can begin to read in its middle.
    """

    frames: Callable[[bytes], Iterator[Frame]]
    """Decompresses all frames of a file's bytes."""

    def scan(self, file: StoredFile) -> ShardScan:
        """Decompress the file and count the lines of its frames."""
        content = file.read_all()
        digest = hashlib.blake2b(content, digest_size=16)
        places = []
        decoded = 0
        for begin, end, text in _of_whole_lines(self.frames(content)):
            decoded += len(text)
            if rows := count_lines(text):
                places.append(Place(begin, end, zlib.crc32(content[begin:end]), rows))
        return ShardScan(tuple(places), digest.hexdigest(), decoded_bytes=decoded * _IN_MEMORY)

    def open(self, file: StoredFile, digest: str, columns: tuple[str, ...] | None) -> OpenShard:  # noqa: ARG002 - ShardFormat
        """Open nothing yet: each part has a checksum."""
        return _OpenFrames(file, columns, self.frames)


@dataclass(frozen=True)
class _OpenFrames:
    file: StoredFile
    columns: tuple[str, ...] | None
    frames: Callable[[bytes], Iterator[Frame]]

    def read(self, place: Place) -> RowGroup:
        part = place.read_from(self.file)
        if zlib.crc32(part) != place.check:
            raise ShardChangedError("its bytes are not those that were indexed")
        return LineGroup(b"".join(text for _, _, text in self.frames(part)), self.columns)


def _of_whole_lines(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Join frames until they end where a line does, and are worth reading."""
    texts: list[bytes] = []
    begin = end = size = 0
    for start, end, text in frames:
        begin = begin if texts else start
        texts.append(text)
        size += len(text)
        if text.endswith(b"\n") and size >= PART_BYTES:
            yield begin, end, b"".join(texts)
            texts, size = [], 0
    if texts:
        yield begin, end, b"".join(texts)


class LineGroup:
    """Lines in memory; each is parsed when it is taken."""

    def __init__(self, part: bytes, columns: tuple[str, ...] | None) -> None:
        self._lines = [line for line in part.split(b"\n") if line not in (b"", b"\r")]
        self._columns = columns

    def parts(self) -> tuple[dict[str, NDArray[Any]], LineGroup]:
        """Return itself: nothing is parsed yet."""
        return {}, self

    def take(self, rows: NDArray[np.int64]) -> dict[str, Values]:
        """Parse some lines; with all columns wanted, what a line does not have is ``MISSING``."""
        parsed = [self._parse(row) for row in rows.tolist()]
        if self._columns is None:
            names = dict.fromkeys(name for row in parsed for name in row)
            return {name: [row.get(name, MISSING) for row in parsed] for name in names}
        every = list(zip(parsed, rows.tolist(), strict=True))
        return {name: [_value(row, at, name) for row, at in every] for name in self._columns}

    def _parse(self, row: int) -> dict[str, Any]:
        try:
            found = json.loads(self._lines[row])
        except (ValueError, RecursionError) as error:
            raise BadRowError(row, f"is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise BadRowError(row, f"is a {type(found).__name__}, not an object with columns")
        return found


def _value(parsed: dict[str, Any], row: int, name: str) -> Any:
    try:
        return parsed[name]
    except KeyError:
        there = ", ".join(list(parsed)[:8])
        raise BadRowError(row, f"has no {name!r}; it has {there or 'nothing'}") from None


def count_lines(part: bytes) -> int:
    """Count the lines that are not empty."""
    if not part:
        return 0
    text = np.frombuffer(part, np.uint8)
    ends = np.append(np.flatnonzero(text == ord("\n")), text.size)
    lengths = np.diff(ends, prepend=-1) - 1
    only_return = (lengths == 1) & (text[ends - 1] == ord("\r"))
    return int(((lengths > 0) & ~only_return).sum())

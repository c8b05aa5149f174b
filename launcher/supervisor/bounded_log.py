"""A log that keeps its first and its last part: a program that prints without end must not fill the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

MB = 1_000_000
_LARGEST_LAST_PART = 1 << 24
_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 16  # a part begins with a line, unless that is longer


class BoundedLog:
    """One rank's log.

    It is one file at all times. When it would grow too large, its middle is left out in place, which takes no further
    space: the first part stays, then comes a line that says what is missing, then the newest part.

    Args:
        path: the file.
        max_bytes: of it.
        notify: called once with a message, when something is left out for the first time.
    """

    def __init__(self, path: Path, max_bytes: int, notify: Callable[[str], None]) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._last_part = min(max_bytes // 4, _LARGEST_LAST_PART)
        self._notify = notify
        self._first_part = self._note = self._left_out = 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(descriptor, "ab", buffering=0)

    def write(self, data: bytes) -> None:
        """Append some bytes."""
        if self._file.tell() + len(data) > self._max_bytes:
            self._shorten()
        self._file.write(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _shorten(self) -> None:
        with self._path.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            is_first = not self._first_part
            if is_first:
                self._first_part = _line_after(file, self._max_bytes - 2 * self._last_part)
            kept = _line_after(file, end - self._last_part)
            self._left_out += kept - self._first_part - self._note
            note = b"\n[launch: %b]\n" % self._words.encode()
            self._note = len(note)
            file.seek(self._first_part)
            file.write(note)
            _move(file, kept, end, self._first_part + len(note))
        self._file.seek(0, os.SEEK_END)
        if is_first:
            self._notify(
                f"{self._path.name} has reached {self._max_bytes / MB:g} MB (log.max_mb): it keeps its first"
                " and its newest part"
            )

    @property
    def _words(self) -> str:
        size = f"{self._max_bytes / MB:g} MB"
        return f"{self._left_out:,} bytes are left out here, because a log has at most {size} (log.max_mb)"


def _line_after(file: BinaryIO, place: int) -> int:
    """Return the place of the first line that begins there or soon after it, else the place itself."""
    file.seek(place)
    found = file.read(_LONGEST_LINE).find(b"\n")
    return place + found + 1


def _move(file: BinaryIO, start: int, end: int, to: int) -> None:
    """Move bytes towards the beginning of a file; what comes after them is cut off."""
    while start < end:
        file.seek(start)
        chunk = file.read(min(_CHUNK, end - start))
        file.seek(to)
        file.write(chunk)
        start, to = start + len(chunk), to + len(chunk)
    file.truncate(to)

"""Marks in what a rank prints, round its last words: the supervisor holds them back until it knows whose count.

An exception that leaves a script is shown by the rank itself, on the same stderr as everything before and after it. A
mark in that stream tells the very place; the text alone does not, since a script may print tracebacks of errors that it
has caught. The supervisor takes the marks out again. Where one slips through, terminals ignore it: it is an APC string.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum

_STDERR = 2


class Mark(Enum):
    """A place in a rank's output."""

    ERROR = b"\x1b_lockstep:error\x1b\\"
    """The traceback of an exception begins."""
    INTERRUPT = b"\x1b_lockstep:interrupt\x1b\\"
    """That of a KeyboardInterrupt begins."""
    END = b"\x1b_lockstep:end\x1b\\"
    """It is over; what the process prints from here on, it prints while it ends."""


_ESCAPE = b"\x1b"
"""What every mark begins with."""
_MARKS = {mark.value: mark for mark in Mark}
_LONGEST = max(map(len, _MARKS))


class MarkedStream:
    """One stream of a rank, as it comes: bytes for users, and marks between them."""

    def __init__(self) -> None:
        self._rest = b""

    def split(self, data: bytes) -> list[bytes | Mark]:
        """Take the marks out of some bytes; the beginning of what may become one waits for the next bytes."""
        parts: list[bytes | Mark] = []
        data, self._rest = self._rest + data, b""
        if _ESCAPE not in data:  # nearly always, and with every line that a rank prints
            return [data] if data else []
        while found := _first_mark(data):
            at, mark = found
            parts += [data[:at], mark]
            data = data[at + len(mark.value) :]
        cut = len(data) - _length_of_beginning(data)
        self._rest = data[cut:]
        return [part for part in (*parts, data[:cut]) if part]

    def rest(self) -> bytes:
        """Return what has waited for the rest of a mark in vain."""
        rest, self._rest = self._rest, b""
        return rest


def _first_mark(data: bytes) -> tuple[int, Mark] | None:
    found = [(at, mark) for value, mark in _MARKS.items() if (at := data.find(value)) >= 0]
    return min(found, key=lambda pair: pair[0]) if found else None


def _length_of_beginning(data: bytes) -> int:
    """Return how many bytes at the end could be the beginning of a mark."""
    last = range(max(0, len(data) - _LONGEST + 1), len(data))
    starts = (at for at in last if data.startswith(_ESCAPE, at))
    return next((len(data) - at for at in starts if any(v.startswith(data[at:]) for v in _MARKS)), 0)


class _Stderr:
    """The stderr that this process was started with; what a program puts in its place gets no marks."""

    identity: tuple[int, int] | None = None

    @classmethod
    def current(cls) -> tuple[int, int] | None:
        with suppress(OSError):
            found = os.fstat(_STDERR)
            return found.st_dev, found.st_ino
        return None

    @classmethod
    def mark(cls, mark: Mark) -> None:
        if cls.identity is None or cls.current() != cls.identity:
            return
        with suppress(OSError, ValueError, AttributeError):  # closed, or None
            sys.stderr.flush()
        with suppress(OSError):
            os.write(_STDERR, mark.value)


def allow_marks() -> None:
    """Mark this process's stderr from now on: a supervisor reads it."""
    _Stderr.identity = _Stderr.current()


@contextmanager
def last_words(mark: Mark) -> Iterator[None]:
    """Mark what is printed in this block."""
    _Stderr.mark(mark)
    try:
        yield
    finally:
        _Stderr.mark(Mark.END)

"""The run's record: one JSON line per event, written by rank 0; everything that users see is made from it."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, TextIO

_NUMBERS = {"step": ("step",), "epoch": ("step", "epoch"), "evaluation": ("step", "epoch")}
"""Which numbers an event of a kind must have."""
_REACH = 1 << 28  # a reader from the end looks no further back: some seconds even on a slow disk
_FIRST_BLOCK, _LARGEST_BLOCK = 1 << 13, 1 << 20
_ALIKE = ("start", "step", "epoch", "evaluation", "unreached", "early_stop", "note", "straggler", "world")
"""Events that each rank would write, at the same place of the run."""
_KNOWN_BY = ("event", "step", "epoch", "message", "processes", "before", "died")


class EventLog:
    """Appends events to ``metrics.jsonl``; a no-op on other ranks.

    Args:
        path: the file; None on ranks that do not log.
        fence: raises where another attempt has taken the run over.
        writes: False on a rank that may have to take the place of the one that does: it holds what that one may not
            have come to write.
    """

    def __init__(
        self, path: Path | None, fence: Callable[[], None] = lambda: None, *, writes: bool = True
    ) -> None:
        self._lock = Lock()  # checkpoints are reported from the thread that writes them
        self._fence = fence
        self._path = path
        self._held: list[dict[str, Any]] = []
        self._written: set[str] = set()
        """What the rank before has written, and this one may come to."""
        self._file: TextIO | None = path.open("a", encoding="utf-8") if path is not None and writes else None

    def write(self, event: str, **values: Any) -> None:
        """Append one whole event: a reader never sees half a line that ends in a newline.

        ``epoch`` counts from 0, and ``epoch_number``, which users and trackers are shown, from 1.
        """
        if self._path is None:
            return
        numbered = {"epoch_number": values["epoch"] + 1} if "epoch" in values else {}
        document = {"time": round(time.time(), 3), "event": event, **numbered, **values}
        if self._file is None:
            self._held.append(document)
            return
        if self._written and (known := _known_by(document)) in self._written:
            self._written.remove(known)
            return
        self._append(self._file, document)

    def forget_held(self) -> None:
        """Forget what is held: the rank that writes has begun a step after it."""
        self._held.clear()

    def take_over(self) -> None:
        """Write from now on, in the place of a rank that has died; first what that one has not come to write."""
        if self._path is None or self._file is not None:
            return
        self._fence()
        _cut_last_line(self._path)
        found = events_backwards(self._path, _ALIKE, _LARGEST_BLOCK)
        self._written = {_known_by(event) for event in found}
        held, self._held = self._held, []
        self._file = self._path.open("a", encoding="utf-8")
        for document in held:
            if (known := _known_by(document)) in self._written:
                self._written.remove(known)
            else:
                self._append(self._file, document)
        # The processes may change in the same way once more.
        self._written = {known for known in self._written if json.loads(known)[0] != "world"}

    def _append(self, file: TextIO, document: dict[str, Any]) -> None:
        self._fence()
        line = json.dumps({key: plain(value) for key, value in document.items()}) + "\n"
        with (
            self._lock,
            suppress(OSError),
        ):  # a full disk: what is buffered is tried again with the next event
            file.write(line)
            file.flush()

    def sync(self) -> None:
        """Flush what was logged to the disk: a checkpoint must not get there before the record that leads to it."""
        if self._file is not None:
            with suppress(OSError, ValueError):
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Flush to the disk."""
        if self._file is not None:
            with suppress(OSError):
                os.fsync(self._file.fileno())
                self._file.close()
            self._file = None


def _known_by(event: dict[str, Any]) -> str:
    """Return what an event of ``_ALIKE`` is known by; of another one, what none of those is."""
    return json.dumps([event.get(name) for name in _KNOWN_BY]) if event["event"] in _ALIKE else ""


def _cut_last_line(path: Path) -> None:
    """Cut off a last line that has no end."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - _LARGEST_BLOCK))
        rest = file.read().rpartition(b"\n")[2]
        file.truncate(end - len(rest))


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a file, without a last line that is still being written."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") and (event := parse_event(line)):
                yield event


def read_event_blocks(path: Path, lines: int = 4096) -> Iterator[list[dict[str, Any]]]:
    """Yield the events of a file, many at a time: parsed as one document they take a third less time."""
    if not path.exists():
        return
    with path.open("rb") as file:
        while block := list(islice(file, lines)):
            whole = [line for line in block if line.endswith(b"\n")]
            try:
                events = json.loads(b"[" + b",".join(whole) + b"]")
            except (ValueError, RecursionError):
                events = [parse_event(line) for line in whole]
            yield [event for event in events if isinstance(event, dict) and _is_event(event)]


def parse_event(line: bytes) -> dict[str, Any]:
    """Parse the event of a line; return an empty one where the line holds none that a reader could use."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) and _is_event(event) else {}


def _is_event(event: dict[str, Any]) -> bool:
    """Tell whether there is a kind, and a number where one must be: nobody counts by what else a line holds."""
    kind = event.get("event")
    if not isinstance(kind, str):
        return False
    wanted = _NUMBERS.get(kind, ())
    return all(type(event[key]) is int if key in event else key not in wanted for key in ("step", "epoch"))


def events_backwards(
    path: Path, kinds: tuple[str, ...] = (), reach: int = _REACH
) -> Iterator[dict[str, Any]]:
    """Yield events, newest first, except for lines that are damaged or still being written.

    Args:
        path: the record.
        kinds: only of these. Others are not parsed, which takes a tenth of the time.
        reach: how many bytes are read at most.
    """
    marks = [f'"event": "{kind}"'.encode() for kind in kinds] or [b""]
    for lines in _blocks_backwards(path, reach):
        if any(mark in lines for mark in marks):
            for line in reversed(lines.split(b"\n")):
                marked = any(mark in line for mark in marks)
                if marked and (event := parse_event(line)) and event["event"] in (kinds or (event["event"],)):
                    yield event


def _blocks_backwards(path: Path, reach: int) -> Iterator[bytes]:
    """Yield whole lines in ever larger blocks from the end; a line longer than the largest block is left out."""
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        end = file.seek(0, os.SEEK_END)
        first = max(0, end - reach)
        rest, size = b"", _FIRST_BLOCK
        while end > first:
            start = max(first, end - size)
            file.seek(start)
            part, newline, lines = (file.read(end - start) + rest).partition(b"\n")
            if newline:
                yield lines
            rest = part + newline if len(part) < _LARGEST_BLOCK else b""
            end, size = start, min(2 * size, _LARGEST_BLOCK)
        if first == 0:
            yield rest


class EventLogTail:
    """A reader of what a record has got since it was last read, also from the beginning of one that took its place.

    Args:
        path: the record.
        reach: how many bytes of what is there already are read at most, from its end.
    """

    def __init__(self, path: Path, reach: int = sys.maxsize) -> None:
        self._path = path
        self._reach = reach
        self._at = 0
        self._inode = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the new events, without a last line that is still being written; none while there is no file."""
        with suppress(OSError), self._path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._at:
                self._inode, self._at = found.st_ino, max(0, found.st_size - self._reach)
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._at += len(line)
                if event := parse_event(line):
                    yield event


def plain(value: Any) -> Any:
    """Return ``value`` for JSON, which has no NaN: null instead."""
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""The run's record: one JSON line per event, written by rank 0; everything that users see is made from it."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, TextIO

from ...data.common import file_named_in_errors


class EventLog:
    """Appends events to ``metrics.jsonl``; a no-op on other ranks.

    Args:
        path: the file; None on ranks that do not log.
        fence: raises where another attempt has taken the run over.
    """

    def __init__(self, path: Path | None, fence: Callable[[], None] = lambda: None) -> None:
        self._lock = Lock()  # checkpoints are reported from the thread that writes them
        self._fence = fence
        self._file: TextIO | None = None if path is None else path.open("a", encoding="utf-8")

    def write(self, event: str, **values: Any) -> None:
        """Append one whole event: a reader never sees half a line that ends in a newline."""
        if self._file is None:
            return
        self._fence()
        document = {"time": round(time.time(), 3), "event": event, **values}
        line = json.dumps({key: plain(value) for key, value in document.items()}) + "\n"
        with (
            self._lock,
            suppress(OSError),
        ):  # a full disk: what is buffered is tried again with the next event
            self._file.write(line)
            self._file.flush()

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


def rows_logged(state: Mapping[str, Any], steps: int) -> int:
    """Return how many epochs have their row in the record at a checkpoint.

    Args:
        state: the checkpoint's.
        steps: of the resumed run. The epoch that ``max_steps`` cut short has its row, unless it continues as well.
    """
    is_cut_short = state["step"] >= steps and state["epoch_step"] > 0 and not state["pending"]
    return int(state["epoch"]) + is_cut_short


def rewind(path: Path, step: int, epoch: int, *, anew: bool = False) -> int:
    """Cut the record where a checkpoint was taken: what was logged after it will be logged again.

    Args:
        path: the record.
        step: steps done at the checkpoint.
        epoch: the first whose row is still to come, as ``rows_logged`` says.
        anew: a new file also where nothing is to be cut: what an attempt that was given up, but lives on,
            may still write goes into the old one, which nobody reads.

    Returns:
        How many lines before that cannot be read, as a power cut may leave them: they are dropped.
    """
    if not path.exists():
        return 0
    shorter = path.with_name(f".{path.name}.tmp")
    try:
        with file_named_in_errors(shorter):
            lost = _copy_until(path, shorter, step, epoch)
    except OSError:
        shorter.unlink(missing_ok=True)
        raise
    if shorter.stat().st_size == path.stat().st_size and not anew:
        shorter.unlink()
    else:
        shorter.replace(path)
    return lost


def _copy_until(path: Path, shorter: Path, step: int, epoch: int) -> int:
    """Copy the record up to a checkpoint; return how many of its lines cannot be read."""
    lost = 0
    with path.open("rb") as file, shorter.open("wb") as copy:
        for line in file:
            event = _parsed(line)
            if not line.endswith(b"\n") or (event and _is_after(event, step, epoch)):
                break
            copy.write(line if event else b"")
            lost += not event
        copy.flush()
        os.fsync(copy.fileno())
    return lost


def _parsed(line: bytes) -> dict[str, Any]:
    """Parse the event of a line; return an empty one where the line holds none."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) and "event" in event else {}


def _is_after(event: dict[str, Any], step: int, epoch: int) -> bool:
    kind = event["event"]
    over = kind in ("end", "early_stop")  # said anew, where it is still true
    return bool(over or event.get("step", 0) > step or (kind == "epoch" and event["epoch"] >= epoch))


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a file, without a last line that is still being written."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") and (event := _parsed(line)):
                yield event


class EventLogTail:
    """A reader of what a record has got since it was last read, also from the beginning of one that took its place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._inode = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the new events, without a last line that is still being written; none while there is no file."""
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._at:
                self._inode, self._at = found.st_ino, 0
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._at += len(line)
                if event := _parsed(line):
                    yield event


def plain(value: Any) -> Any:
    """Return ``value`` for JSON, which has no NaN: null instead."""
    return None if isinstance(value, float) and not math.isfinite(value) else value

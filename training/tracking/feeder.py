"""Feeds one tracker from ``metrics.jsonl`` in a process of its own, so that nothing a tracker does can cost a step.

One process per tracker: one that hangs, ends its process or has to begin again touches none of the others, and none
needs more code than its own methods.

Started by the supervisor, or by rank 0 where there is none. Ends when its stdin does, and so with the process that
started it, however that ends.

Started by a user as ``python -m lockstep.training.tracking.feeder RUN TRACKER``, it sends what the tracker lacks.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import groupby, islice
from pathlib import Path
from threading import Event, Thread
from typing import Any, BinaryIO, NoReturn

from ...data.common import LockstepError, UsageError, load_callable
from ..config import TRACKERS, read_spec, tracker_file_name
from .event_log import parse_event
from .feeder_processes import FINISH_SECONDS, MODULE, WARNED
from .rewinding import find_near
from .rows import is_numbered, row_number, row_of
from .tracker import NewProcessNeededError, TrackedRun, Tracker

_POLL_SECONDS = 0.2
_MAX_RESTARTS = 20  # of W&B's service, which SLURM's preemption ends twice
_AT_ONCE = 10_000  # events held in memory, of a record that may have millions
_METHODS = ("begin", "rewind", "rows", "pictures", "end")


def main(argv: list[str]) -> int:
    """Feed a tracker until stdin ends; a number on stdin is the run's exit status.

    Args:
        argv: the run's folder, the tracker's name, and the number of the last row that was there before this
            attempt. Without the number no attempt is under way: the record is sent as it is. After them, how often
            this process may still begin again and what it has been told so far, as ``_begin_again`` says it.

    Returns:
        0, or ``WARNED`` where the last line of the output is a warning for the user.
    """
    folder, name, *rest = argv
    if not rest[1:]:
        os.nice(10)  # the ranks need the processors more
    with _feeder_lock(Path(folder), name):
        _keep_temporary_files(Path(folder) / f".{tracker_file_name(name)}.tmp")
        try:
            return _feed(Path(folder), name, [int(number) for number in rest])
        except LockstepError as error:
            return _warn(f"{name}: {error.message}")


def _feed(folder: Path, name: str, rest: list[int]) -> int:
    is_manual = not rest
    last_kept, restarts, *status = [*rest, *(sys.maxsize, _MAX_RESTARTS)[len(rest) :]]
    feed = TrackerFeed(folder, make_tracker(name, read_spec(folder / "spec.json").base), last_kept)
    attempt = AttemptStatus([_outcome(folder)] if is_manual else status)
    try:
        while not attempt.ended.is_set():
            if feed.take() == 0:
                attempt.ended.wait(_POLL_SECONDS)
        while feed.take():
            pass
        warning = feed.end(attempt.status)
    except NewProcessNeededError as error:
        if not restarts:
            raise
        sys.stderr.write(f"{error}: the record is begun again\n")
        told = [str(attempt.status)] if attempt.ended.is_set() else []
        _begin_again([str(folder), name, str(last_kept), str(restarts - 1), *told])
    return _warn(warning) if warning else 0


def _warn(warning: str) -> int:
    sys.stderr.write(f"{warning}\n")
    return WARNED


def _begin_again(argv: list[str]) -> NoReturn:
    """Become a fresh feeder, which sends or writes the record anew, as another attempt's does.

    This process is the same, and so is its stdin.
    """
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", MODULE, *argv])  # noqa: S606 - no shell is wanted


def make_tracker(name: str, base: Path) -> Tracker:
    """Make the tracker that ``tracking:`` names.

    Args:
        name: one of ``TRACKERS``, or a user's own callable.
        base: the folder that a relative path is relative to.
    """
    make = load_callable(TRACKERS[name].factory if name in TRACKERS else name, base)
    tracker: Tracker = make()
    missing = [method for method in _METHODS if not callable(getattr(tracker, method, None))]
    if missing:
        raise UsageError(
            f"what it returns has no {', '.join(missing)}", f"a tracker has {', '.join(_METHODS)}"
        )
    return tracker


@contextmanager
def _feeder_lock(folder: Path, name: str) -> Iterator[None]:
    """Wait for an earlier attempt's feeder, which may outlive its launcher: two at once would count the same rows."""
    with (folder / f"{tracker_file_name(name)}.lock").open("w") as lock:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _keep_temporary_files(folder: Path) -> None:
    """Have a tracker's temporary files made in the run folder: what a killed one leaves is removed by the next.

    Not where the file system takes no sockets: W&B's service makes one there.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        folder.mkdir()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)  # before W&B's, and so called after it
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            # By the descriptor: the folder's own path may be too long for a socket's name.
            probe.bind(f"/proc/self/fd/{descriptor}/probe")
        finally:
            os.close(descriptor)
        (folder / "probe").unlink()
        os.environ["TMPDIR"] = str(folder)
        tempfile.tempdir = None


def _outcome(folder: Path) -> int:
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads((folder / "outcome.json").read_text(encoding="utf-8"))["exit_code"])
    return 1


class AttemptStatus:
    """The attempt's exit status, once stdin has said it; 1 when the process that writes to it is gone without a word.

    Read in a thread, so that a tracker that hangs is ended even if nobody is there any more who would.

    Args:
        known: the status, where the attempt is over already.
    """

    def __init__(self, known: list[int]) -> None:
        self.status = known[0] if known else 1
        self.ended = Event()
        if known:
            self.ended.set()
        else:
            Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with suppress(OSError):
            text = os.read(0, 64)
            self.status = int(text) if text.strip().isdigit() else 1
        signal.alarm(round(FINISH_SECONDS))
        self.ended.set()


class TrackerFeed:
    """The stream of a record to one tracker, begun with the first event: a run that never started leaves no trace.

    Args:
        folder: the run's.
        tracker: gets the rows.
        last_kept: number of the last row that was there before this attempt.
    """

    def __init__(self, folder: Path, tracker: Tracker, last_kept: int) -> None:
        self._folder = folder
        self._tracker = tracker
        self._last_kept = last_kept
        self._file: BinaryIO | None = None
        self._partial_line = b""
        self._first_wanted: int | None = None
        """Number of the first row that the tracker lacks; None before it has begun."""

    def take(self) -> int:
        """Pass on what has been logged since, or the first part of much; return the number of events."""
        events = list(islice(self._new_events(), _AT_ONCE))
        if events and self._first_wanted is None:
            self._first_wanted = self._begin()
            self._skip_to_row(self._first_wanted)
        for is_picture, group in groupby(events, key=lambda event: event["event"] == "pictures"):
            (self._pass_pictures if is_picture else self._pass_rows)(list(group))
        return len(events)

    def end(self, exit_status: int) -> str | None:
        """End the attempt; return a warning for the user, if there is one."""
        if self._file is not None:
            self._file.close()
        return None if self._first_wanted is None else self._tracker.end(exit_status)

    def _new_events(self) -> Iterator[dict[str, Any]]:
        # The file stays open: where a later attempt has put a shorter one in its place, that is for its own feeder.
        path = self._folder / "metrics.jsonl"
        if self._file is None and path.exists():
            self._file = path.open("rb")
        while self._file is not None and (text := self._file.readline()):
            self._partial_line += text
            if self._partial_line.endswith(b"\n"):
                line, self._partial_line = self._partial_line, b""
                if event := parse_event(line):
                    yield event

    def _begin(self) -> int:
        spec = read_spec(self._folder / "spec.json")
        run = TrackedRun(spec.run, spec.wandb_id, self._folder, spec.config)
        first_wanted = self._tracker.begin(run)
        if first_wanted > self._last_kept + 1:
            return self._tracker.rewind(self._last_kept)
        return first_wanted

    def _skip_to_row(self, number: int) -> None:
        """Continue where the first row may be that has this number, unless that has been read already."""
        if self._file is not None:
            read = self._file.tell()
            place = find_near(
                self._file, number // 2
            )  # a step's row has twice its number, an epoch's one more
            self._file.seek(max(read, place))
            if place > read:
                self._partial_line = b""

    def _pass_rows(self, events: list[dict[str, Any]]) -> None:
        rows = [row for event in events if (row := row_of(event)) and self._is_wanted(row.number)]
        if rows:
            self._tracker.rows(rows)

    def _pass_pictures(self, events: list[dict[str, Any]]) -> None:
        for event in events:
            whole = is_numbered(event) and isinstance(event.get("pictures"), dict)
            if whole and self._is_wanted(row_number(event)):
                pictures = {name: self._folder / path for name, path in event["pictures"].items()}
                self._tracker.pictures(int(event["step"]), pictures)

    def _is_wanted(self, number: int) -> bool:
        return self._first_wanted is not None and number >= self._first_wanted


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``launch logs``: what a training's terminal saw and what the ranks wrote, from its folder alone."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from ...data.common import UsageError
from ..console import (
    WINDOW,
    LineMerger,
    bounded,
    format_ranks,
    last_state,
    merge_lines,
    print_json,
    print_messages,
    print_results,
)
from ..process import is_held
from ..runs import (
    ANY_RUN,
    LOCK,
    TRANSCRIPT,
    attempts,
    describe_job,
    find_run,
    is_submitted,
    is_sweep,
    logs_without_attempt,
    merge_job_status,
    query_jobs,
    read_status,
)
from ..slurm import FOLDER

_EVERY_SECONDS = 0.2
_LOG = re.compile(r"rank-(\d+)\.log")
_OF_JOBS = ("job-*.log", "job-*/node-*.log")
_CHUNK = 1 << 16
_BLOCK_LINES = 500
_COMPARED = 256  # bytes
_SHORTENED = "[launch: this log has reached its size (log.max_mb): some lines are left out here]"
_QUEUE_SECONDS = 5.0  # the queue is everybody's: it is not to be asked often


def show_logs(
    name: str, *, follow: bool, rank: int | None, attempt: int | None, as_json: bool = False
) -> int:
    """Print the logs of a run's newest attempt; the exit status.

    Args:
        name: of the run.
        follow: continue as they grow, into later attempts as well, until no launcher has the run.
        rank: only this one; else all, with the lines that several wrote once.
        attempt: this one.
        as_json: one document.

    Raises:
        UsageError: there is no such run, attempt or rank.
    """
    folder = find_run(name, ANY_RUN)
    if is_sweep(folder):
        raise UsageError(
            f"{folder.name} is a sweep: its points have the logs", f"`launch logs {folder.name}-000`"
        )
    if as_json:
        if follow:
            raise UsageError("--follow and --json: a document has an end", "leave one of them out")
        print_json(_document(folder, rank, attempt))
        return 0
    if is_submitted(folder) and rank is None and attempt is None and (follow or not attempts(folder)):
        _show_jobs(folder, follow=follow)
        if not attempts(folder):
            return 0
    number = _number(folder, attempt)
    if follow and (number is not None or is_held(folder / LOCK)):
        _follow(folder, rank, number)
        return _show_nodes(folder) if rank is None else 0
    number, logs, transcript = _files(folder, rank, number)
    print_messages([_headline(folder, attempts(folder), number)])
    if transcript is not None:
        print_results(_lines(transcript))
    _print(logs, marked=transcript is not None)
    return _show_nodes(folder) if rank is None and attempt is None else 0


def _document(folder: Path, rank: int | None, attempt: int | None) -> dict[str, Any]:
    """Return what the logs hold: of the newest attempt, and of a job or a node that got no further."""
    document: dict[str, Any] = {"schema_version": 1, "run": folder.name, "attempt": None, "attempts": []}
    others = sorted(logs_without_attempt(folder))
    if not attempts(folder) and rank is None and attempt is None:
        others = [path for pattern in _OF_JOBS for path in sorted((folder / FOLDER).glob(pattern))]
    rows: dict[str, list[Any]] = {"printed": [], "lines": []}
    if attempts(folder) or not others:
        number, logs, transcript = _files(folder, rank, _number(folder, attempt))
        document |= {"attempt": number, "attempts": attempts(folder)}
        merged = merge_lines({rank: _lines(path) for rank, path in logs.items()})
        rows = {
            "printed": [] if transcript is None else list(_lines(transcript)),
            "lines": [{"ranks": ranks, "text": text} for text, ranks in merged],
        }
    shown = others if rank is None and attempt is None else []
    files = [{"path": str(path), "lines": list(_lines(path))} for path in shown]
    return {**document, **rows, "files": files}


def _number(folder: Path, attempt: int | None) -> int | None:
    numbers = attempts(folder)
    if attempt is not None and attempt not in numbers:
        raise UsageError(f"{folder.name} has no attempt {attempt}", f"it has {_listed(numbers)}")
    return attempt or (numbers[-1] if numbers else None)


def _files(folder: Path, rank: int | None, number: int | None) -> tuple[int, dict[int, Path], Path | None]:
    """Return an attempt's number, the logs of the ranks that are wanted, and what its launcher printed."""
    if number is None:
        raise UsageError(f"{folder.name} has no log", "`launch status` says how it is doing")
    logs = _logs(folder / f"attempt-{number}")
    printed = folder / f"attempt-{number}" / TRANSCRIPT
    transcript = printed if rank is None and printed.is_file() else None
    if not (logs or transcript) or (rank is not None and rank not in logs):
        raise UsageError(
            f"attempt {number} of {folder.name} has no log of {'any rank' if rank is None else f'rank {rank}'}",
            f"it has those of ranks {_listed(logs)}" if logs else f"see {folder}/attempt-{number}/agent.log",
        )
    return number, {rank: logs[rank]} if rank is not None else logs, transcript


def _show_nodes(folder: Path) -> int:
    """Print what the nodes of a later job said, if it got no further; 0."""
    for path in logs_without_attempt(folder):
        print_messages([f"{folder.name}, later: {path}"])
        print_results(_marked(path, _lines(path)))
    return 0


def _marked(path: Path, lines: Iterator[str]) -> Iterator[str]:
    """Mark a node's lines with its number; leave a job's own as they are."""
    return (f"{path.stem} | {line}" for line in lines) if path.stem.startswith("node-") else lines


def _show_jobs(folder: Path, *, follow: bool) -> None:
    """Print what jobs and nodes wrote while there is no rank: set-up lines, and why nothing started."""
    log_tails: dict[Path, _Tail] = {}
    last = ""
    looked = -_QUEUE_SECONDS
    while not attempts(folder):
        over = not follow
        if time.monotonic() - looked > _QUEUE_SECONDS:
            answer = query_jobs([folder])
            looked = time.monotonic()
            found = merge_job_status(read_status(folder), answer)
            over = over or found.is_over
            if (now := "; ".join(describe_job(found))) != last:
                print_messages([f"{folder.name} is {found.status}: {now}"])
                last = now
        for path in (path for pattern in _OF_JOBS for path in sorted((folder / FOLDER).glob(pattern))):
            tail = log_tails.get(path) or log_tails.setdefault(path, _Tail(path))
            if not print_results(_marked(path, tail.more(rest=over))):
                over = True
        if over:
            break
        time.sleep(_EVERY_SECONDS)
    for tail in log_tails.values():
        tail.close()


def _headline(folder: Path, numbers: list[int], number: int) -> str:
    others = [other for other in numbers if other != number]
    more = f"; others: {_listed(others)} (--attempt K)" if others else ""
    return f"{folder.name}, attempt {number}{more}"


def _listed(numbers: list[int] | dict[int, Path]) -> str:
    return format_ranks(sorted(numbers)) or "none"


def _logs(folder: Path) -> dict[int, Path]:
    """Map each rank to its log file, in the order of the ranks."""
    found = {_LOG.fullmatch(path.name): path for path in folder.glob("rank-*.log")}
    return dict(sorted((int(match[1]), path) for match, path in found.items() if match))


def _print(logs: dict[int, Path], *, marked: bool = False) -> None:
    lines = (
        _shown(text, ranks, marked=marked or len(logs) > 1)
        for text, ranks in merge_lines({r: _lines(p) for r, p in logs.items()})
    )
    while (block := list(islice(lines, _BLOCK_LINES))) and print_results(block):
        pass


def _shown(text: str, ranks: list[int], *, marked: bool) -> str:
    """Mark a line with its ranks, where others could have written it."""
    return f"{format_ranks(ranks):>5} | {text}" if marked else text


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for line in file:
            yield _decoded(line)


def _decoded(line: bytes) -> str:
    """Decode a line as a terminal would leave it: of a progress bar only the last state."""
    return last_state(line.rstrip(b"\r\n")).decode(errors="replace")


class _Tail:
    """The lines that were added to a file since the last look."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("rb")
        self._rest = self._before = b""

    def more(self, *, rest: bool = False) -> Iterator[str]:
        """Yield whole lines; with ``rest`` also the last one, which has no line end."""
        if self._is_shortened():
            self._rest = self._before = b""
            self._file.seek(0, os.SEEK_END)
            yield _SHORTENED
        while chunk := self._file.read(_CHUNK):
            self._before = (self._before + chunk)[-_COMPARED:]
            *lines, rest_of_chunk = (self._rest + chunk).split(b"\n")
            self._rest = bounded(rest_of_chunk, _CHUNK)  # a progress bar may never end its line
            yield from map(_decoded, lines)
        if rest and self._rest:
            last, self._rest = self._rest, b""
            yield _decoded(last)

    def _is_shortened(self) -> bool:
        """Tell whether what was read last is no longer there: the log has reached its size."""
        start = self._file.tell() - len(self._before)
        return os.pread(self._file.fileno(), len(self._before), start) != self._before

    def close(self) -> None:
        self._file.close()


def _follow(folder: Path, rank: int | None, number: int | None) -> int:
    """Show logs until the run is over and all of them are shown, or until nobody reads the output."""
    while True:
        if number is not None:
            print_messages([_headline(folder, attempts(folder), number)])
            if not _follow_attempt(folder, rank, number):
                return 0
        running = _goes_on(folder)
        while running and not _later(folder, number):
            waits = is_submitted(folder) and not is_held(folder / LOCK)
            time.sleep(_QUEUE_SECONDS if waits else _EVERY_SECONDS)
            running = _goes_on(folder)
        if not (later := _later(folder, number)):
            return 0
        number = later[0]


def _goes_on(folder: Path) -> bool:
    """Tell whether a launcher has the run, or SLURM has a job that will continue it."""
    if is_held(folder / LOCK):
        return True
    return is_submitted(folder) and not merge_job_status(read_status(folder), query_jobs([folder])).is_over


def _later(folder: Path, number: int | None) -> list[int]:
    return [other for other in attempts(folder) if other > (number or 0)]


def _show_more(merger: LineMerger, log_tails: dict[int, _Tail], *, over: bool, marked: bool) -> bool:
    """Show what was added to the files; a line waits until the next look, so that other ranks can join it."""
    for _ in merger.feed_in_turns({rank: tail.more(rest=over) for rank, tail in log_tails.items()}):
        if merger.fresh > WINDOW and not _print_ready(merger, WINDOW, marked=marked):
            return False
    return _print_ready(merger, 0 if over or len(log_tails) == 1 else merger.fresh, marked=marked)


def _print_ready(merger: LineMerger, max_waiting: int, *, marked: bool) -> bool:
    shown = [_shown(text, ranks, marked=marked) for text, ranks in merger.ready(max_waiting)]
    return not shown or print_results(shown)


def _follow_attempt(folder: Path, rank: int | None, number: int) -> bool:
    """Show one attempt as it grows, until there is a later one or the run is over; whether somebody reads on."""
    log_tails: dict[int, _Tail] = {}
    transcript: _Tail | None = None
    merger = LineMerger()
    try:
        while True:
            over = not is_held(folder / LOCK) or attempts(folder)[-1] > number  # looked at before the files
            for other, path in _logs(folder / f"attempt-{number}").items():
                if other not in log_tails and rank in (None, other):
                    log_tails[other] = _Tail(path)
            path = folder / f"attempt-{number}" / TRANSCRIPT
            if transcript is None and rank is None and path.is_file():
                transcript = _Tail(path)
            if transcript is not None and not print_results(transcript.more(rest=over)):
                return False
            marked = transcript is not None or len(log_tails) > 1
            if not _show_more(merger, log_tails, over=over, marked=marked):
                return False
            if over:
                return True
            time.sleep(_EVERY_SECONDS)
    finally:
        for tail in (*log_tails.values(), *([transcript] if transcript else [])):
            tail.close()

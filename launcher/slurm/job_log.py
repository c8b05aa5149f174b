"""``RUN/slurm/jobs.jsonl``: what became of a run's SLURM jobs, one line per event.

Whoever submits, starts, requeues or ends a job appends to it; ``launch status`` reads it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
from pathlib import Path
from typing import Any

FOLDER = "slurm"
"""Of a run folder: the jobs' events, their logs and the set-up script."""
JOBS = "jobs.jsonl"
_NUMBER = re.compile(r"(\d{1,10})(_\d{1,9})?", re.ASCII)
_NUMBERS = range(1, 0xFFFF_FFFE)  # SLURM counts in 32 bits, of which the two largest are none


def slurm_folder(run: Path) -> Path:
    """Return the folder for everything about a run's SLURM jobs; create it, private to this user, if it is missing."""
    folder = run / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def note_job(run: Path, event: str, job: int | str, **facts: Any) -> None:
    """Append one event, whole: it is a single ``write`` to a file opened for appending.

    Where a full disk took only a part of an earlier one, this one begins on a line of its own.

    Args:
        run: the run's folder.
        event: ``submitted``, ``started``, ``ended``, …
        job: the SLURM job's number.
        facts: what else is to be known, as plain values.

    Raises:
        OSError: it could not be written, or not whole.
    """
    line = (json.dumps({"time": time.time(), "event": event, "job": str(job), **facts}) + "\n").encode()
    path = slurm_folder(run) / JOBS
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_jobs(run: Path) -> list[dict[str, Any]]:
    """Read all events, oldest first; a line that a crash cut short is skipped."""
    try:
        text = (run / FOLDER / JOBS).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [event for line in text.splitlines() if (event := _event(line)) is not None]


def is_job(number: object) -> bool:
    """Check for a job's number, ``12`` or ``12_3``: SLURM refuses a whole query that has anything else in it."""
    found = _NUMBER.fullmatch(str(number))
    return found is not None and int(found[1]) in _NUMBERS


def last_job(run: Path) -> str | None:
    """Return the number of the job that was submitted last; None if there was none."""
    jobs = [str(event["job"]) for event in read_jobs(run) if event.get("event") == "submitted"]
    return jobs[-1] if jobs else None


def newest_log(run: Path) -> Path | None:
    """Return the log of the job that wrote last; None if none has written."""
    logs = (run / FOLDER).glob("job-*.log")
    return max(logs, key=lambda path: path.stat().st_mtime, default=None)


def _event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None

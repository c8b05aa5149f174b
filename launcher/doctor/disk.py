"""Checks of the place where runs are kept: its file system, its room, and how it writes, renames and locks."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .finding import FAIL, PASS, WARN, Finding

_MIB, _GIB = 1 << 20, 1 << 30
_LEAST, _ENOUGH = 100 * _MIB, 5 * _GIB
_WRITTEN = 16 * _MIB
_SLOW_SYNC_SECONDS = 0.1
_SYNCS = 5
_SKEW_SECONDS = 2.0
_MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")


def run_folder_place(root: Path) -> Iterator[Finding]:
    """Measure the file system that run folders are on, in a folder that is removed again."""
    place = next(path for path in (root, *root.parents) if os.path.lexists(path))
    if not place.is_dir():
        fix = "remove it, or set LOCKSTEP_RUNS to a folder"
        yield Finding("run folders", FAIL, f"{place} is not a folder", fix)
        return
    kind = file_system_of(place)
    yield _kind(place, kind)
    yield _room(place)
    folder = place / f".doctor-{secrets.token_hex(4)}"
    try:
        folder.mkdir()
    except OSError as error:
        fix = "make it writable, or set LOCKSTEP_RUNS to a folder that is"
        yield Finding("run folders", FAIL, f"{place} cannot be written: {error.strerror}", fix)
        return
    try:
        yield from _measured(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def file_system_of(place: Path, mounts: str | None = None) -> str:
    """Return the type of the file system that a folder is on, such as ``ext4`` or ``nfs4``."""
    text = Path("/proc/self/mounts").read_text() if mounts is None else mounts
    best, kind = "", "unknown"
    for line in text.splitlines():
        _, point, found, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if len(point) >= len(best) and place.is_relative_to(point):
            best, kind = point, found
    return kind


def _kind(place: Path, kind: str) -> Finding:
    if kind in _MEMORY_FILE_SYSTEMS:
        fix = "set LOCKSTEP_RUNS to a folder on a disk: what is in memory is gone after a restart"
        return Finding("file system", WARN, f"{place} is in memory ({kind})", fix, {"type": kind})
    return Finding("file system", PASS, f"{kind} at {place}", "", {"type": kind})


def _room(place: Path) -> Finding:
    free = shutil.disk_usage(place).free
    verdict = FAIL if free < _LEAST else WARN if free < _ENOUGH else PASS
    fix = "" if verdict == PASS else "remove runs with `launch rm`, or set LOCKSTEP_RUNS to a larger disk"
    return Finding("disk space", verdict, f"{free / _GIB:,.1f} GiB free", fix, {"free_bytes": free})


def _measured(folder: Path) -> Iterator[Finding]:
    yield _writing(folder)
    yield _syncing(folder)
    yield _locking(folder)
    yield _clock(folder)


def _writing(folder: Path) -> Finding:
    """Write one file and rename it over another, as a checkpoint is committed."""
    block = os.urandom(_MIB)
    began = time.monotonic()
    with (folder / "new").open("wb") as file:
        for _ in range(_WRITTEN // _MIB):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    rate = _WRITTEN / _MIB / max(time.monotonic() - began, 1e-6)
    (folder / "old").write_bytes(b"")
    (folder / "new").rename(folder / "old")
    whole = (folder / "old").stat().st_size == _WRITTEN and not (folder / "new").exists()
    if not whole:
        fix = "keep runs on a file system where rename replaces a file at once"
        return Finding("write and rename", FAIL, "a renamed file does not replace the one before", fix)
    return Finding("write and rename", PASS, f"{rate:,.0f} MiB/s with fsync", "", {"mib_per_second": rate})


def _syncing(folder: Path) -> Finding:
    """Measure how long a small file takes until it is on the disk."""
    taken = []
    for number in range(_SYNCS):
        began = time.monotonic()
        with (folder / f"sync-{number}").open("wb") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
        taken.append(time.monotonic() - began)
    median = statistics.median(taken)
    slow = median > _SLOW_SYNC_SECONDS
    fix = (
        "checkpoints are written beside the training, but not faster than this: use a faster disk"
        if slow
        else ""
    )
    return Finding("fsync", WARN if slow else PASS, f"{1000 * median:.1f} ms", fix, {"seconds": median})


def _locking(folder: Path) -> Finding:
    """Lock a file twice: the second try has to fail, for that is how a run has one launcher."""
    path = folder / "lock"
    fix = "keep runs on a file system with flock (Lustre: mounted with -o flock)"
    with path.open("wb") as one, path.open("wb") as other:
        try:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return Finding("locks", FAIL, f"flock fails: {error.strerror}", fix)
        with suppress(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Finding("locks", FAIL, "flock gives one lock to two", fix)
    return Finding("locks", PASS, "flock works")


def _clock(folder: Path) -> Finding:
    """Compare this machine's clock with the one that dates files: ages of runs are read from them."""
    path = folder / "clock"
    before = time.time()
    path.write_bytes(b"x")
    written = path.stat().st_mtime
    skew = max(0.0, before - written, written - time.time())
    wrong = skew > _SKEW_SECONDS
    fix = "let NTP or chrony set the clocks of this machine and of its file server" if wrong else ""
    said = f"{skew:.1f} s apart from the file system's"
    return Finding("clock", WARN if wrong else PASS, said, fix, {"skew_seconds": skew})

"""The run folder: its place, its name, how it is found. Imports nothing heavy, so that ``launch status`` is quick."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...data.common import DamagedError, UsageError, closest_name, os_error_hint
from ..process import is_held

LOCK = ".lock"
"""Held by the launcher that trains the run."""
TRANSCRIPT = "launch.log"
"""In the folder of a training's attempt: what its launcher has printed."""
SWEEP = "sweep.json"
"""In a sweep's own folder, which lies beside those of its points."""
_MARKS = ("spec.json", "run.json", "job.json")
ANY_RUN = (*_MARKS, SWEEP, LOCK)
"""A training; a script that ``launch run`` started; a SLURM job that waits; a sweep; one that is being prepared."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def runs_root() -> Path:
    """Find the folder of all runs: ``$LOCKSTEP_RUNS``, else ``./runs``."""
    return Path(os.environ.get("LOCKSTEP_RUNS") or "runs").resolve()


def create_run(name: str | None, stem: str) -> Path:
    """Create a run folder that only this user may read.

    Raises:
        UsageError: the name is not valid, or is taken.
    """
    root = runs_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        if name is not None:
            return _named(root, name)
        return _numbered(root, f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}")
    except OSError as error:
        raise UsageError(
            f"{root}: a run folder cannot be made here: {error.strerror}",
            os_error_hint(error) or "set LOCKSTEP_RUNS to a folder that can be written",
        ) from error


def _named(root: Path, name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name {name}: not a name for a run",
            "use letters, digits, dots, dashes and underscores, at most 100",
        )
    folder = root / name
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as error:
        if _is_abandoned(folder):
            shutil.rmtree(folder)
            return _named(root, name)
        raise UsageError(
            f"{folder}: this name is taken by {_standing(folder)}", "use another --name"
        ) from error
    return folder


def _is_abandoned(folder: Path) -> bool:
    """Tell whether its launcher was killed before anything was started: there is no spec, and nobody holds the lock."""
    if any((folder / name).exists() for name in (*_MARKS, SWEEP)) or not (folder / LOCK).exists():
        return False
    return not is_held(folder / LOCK)


def _standing(folder: Path) -> str:
    if is_sweep(folder):
        return "a sweep"
    outcome = read_outcome(folder)
    return "an unfinished run" if outcome is None else f"a run that is {outcome.get('status', 'over')}"


def _numbered(root: Path, stem: str) -> Path:
    for number in range(1, 1000):
        folder = root / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        return folder
    raise UsageError(f"{root / stem}: a thousand runs of this second", "give the run a --name")


def find_run(name: str, marks: tuple[str, ...] = ("spec.json",)) -> Path:
    """Find the folder of an existing run by its name or path.

    Args:
        name: a run's name or the path of its folder.
        marks: files one of which makes a folder a run; by default that of a training that can be resumed.

    Raises:
        UsageError: there is none.
    """
    for folder in (runs_root() / name, Path(name).resolve()):
        if is_run(folder, marks):
            return folder
    known = names_by_age(marks)
    guess = closest_name(name, known)
    raise UsageError(
        f"{name}: there is no such run in {runs_root()}" + (f"; did you mean {guess}?" if guess else ""),
        "give a run's name or the path of its folder" + (f"; the newest is {known[-1]}" if known else ""),
    )


def names_by_age(marks: tuple[str, ...]) -> list[str]:
    """Return the names of all runs, the newest last: a run's first file is written when it begins."""
    began: dict[str, int] = {}
    for path in (path for mark in marks for path in runs_root().glob(f"*/{mark}")):
        with suppress(OSError):  # it was removed meanwhile
            name, time_ns = path.parent.name, path.stat().st_mtime_ns
            began[name] = min(began.get(name, time_ns), time_ns)
    return sorted(began, key=lambda name: (began[name], name))


def is_run(folder: Path, marks: tuple[str, ...] = ANY_RUN) -> bool:
    """Tell whether a folder has one of the files that make it a run."""
    return any((folder / mark).is_file() for mark in marks)


def is_sweep(folder: Path) -> bool:
    """Tell whether a folder is that of a sweep."""
    return (folder / SWEEP).is_file()


def point_folder(sweep: Path, index: int) -> Path:
    """Return the run folder of a sweep's point: it lies beside the sweep's own."""
    return sweep.with_name(f"{sweep.name}-{index:03d}")


def read_json(path: Path) -> dict[str, Any]:
    """Read a file of a run; empty where it is not there, is being written or is damaged."""
    with suppress(OSError, ValueError):
        document = json.loads(path.read_bytes())
        if isinstance(document, dict):
            return document
    return {}


def read_outcome(folder: Path) -> dict[str, Any] | None:
    """Read a run's ``outcome.json``; None while there is none."""
    try:
        document: dict[str, Any] = json.loads((folder / "outcome.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedError(
            f"{folder / 'outcome.json'}: not JSON: {error}", "look at metrics.jsonl instead"
        ) from error
    return document

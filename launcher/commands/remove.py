"""``launch rm``: removes the folders of runs and sweeps that nothing works on."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from ...data.common import UsageError
from ..console import print_json, print_messages, print_results
from ..process import is_held
from ..runs import (
    ANY_RUN,
    LOCK,
    Status,
    find_run,
    format_age_of,
    is_run,
    is_sweep,
    merge_job_status,
    query_jobs,
    read_status,
)
from ..sweep import read_sweep

_UNITS = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000


def remove_runs(names: Sequence[str], *, yes: bool, as_json: bool = False) -> int:
    """Remove runs for good, once that was confirmed; return the exit status.

    Args:
        names: of runs or sweeps.
        yes: nothing is asked.
        as_json: print what was removed as a document, and the rest on stderr.

    Raises:
        UsageError: one does not exist or is not over, or nobody can be asked. Then none is removed.
    """
    folders = list(
        dict.fromkeys(folder for name in names for folder in _with_points(find_run(name, ANY_RUN)))
    )
    known = {folder: _refuse_unfinished(folder) for folder in folders}
    (print_messages if as_json else print_results)(
        _described(folder, status) for folder, status in known.items()
    )
    if not yes and not _agreed(len(folders)):
        print_messages(["nothing was removed"])
        return 1
    for folder in folders:
        _remove(folder)
    print_messages([f"removed {len(folders)} folder{'s' * (len(folders) != 1)}"])
    if as_json:
        removed = [{"name": folder.name, "run_dir": str(folder)} for folder in folders]
        print_json({"schema_version": 1, "removed": removed})
    return 0


def _with_points(folder: Path) -> list[Path]:
    """Return a run; of a sweep its points, too."""
    if not is_sweep(folder):
        return [folder]
    sweep = read_sweep(folder)
    points = (sweep.run(index) for index in range(len(sweep.points)))
    return [*(point for point in points if is_run(point)), folder]


def _refuse_unfinished(folder: Path) -> Status | None:
    """Return the status of a run; None of a sweep's own folder.

    Raises:
        UsageError: something works on it, or a job of it waits.
    """
    if is_sweep(folder):
        if is_held(folder / LOCK):
            raise UsageError(f"{folder.name} is running", f"stop it first: `launch stop {folder.name}`")
        return None
    answer = query_jobs([folder])
    status = merge_job_status(read_status(folder), answer)
    if not status.is_over:
        raise UsageError(f"{folder.name} is {status.status}", f"end it first: `launch cancel {folder.name}`")
    if answer.problem:
        raise UsageError(
            f"{folder.name} was submitted, and SLURM cannot be asked whether a job of it waits: {answer.problem}",
            "try again where SLURM answers",
        )
    return status


def _described(folder: Path, status: Status | None) -> str:
    size = _size(
        sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    )
    if status is None:
        return f"{folder.name}: a sweep's own folder, {size}  ({folder})"
    return f"{folder.name}: {status.status}, {status.step:,} steps, {size}, {format_age_of(status)} old  ({folder})"


def _size(count: float) -> str:
    unit = 0
    while count >= _THOUSAND and unit < len(_UNITS) - 1:
        count, unit = count / _THOUSAND, unit + 1
    return f"{count:.3g} {_UNITS[unit]}"


def _agreed(count: int) -> bool:
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("nobody can be asked whether to remove this", "say --yes")
    print_messages([f"remove {'it' if count == 1 else f'these {count}'} for good? Type yes:"])
    return sys.stdin.readline().strip().lower() in ("yes", "y")


def _remove(folder: Path) -> None:
    """Remove a folder, which is no run any more from the first moment on."""
    gone = folder.with_name(f".{folder.name}.removed-{os.getpid()}")
    try:
        folder.rename(gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise UsageError(
            f"{folder}: cannot be removed: {error.strerror}", f"what is left of it is in {gone}"
        ) from error

"""The run that a command means where none was named: the one that runs, else the newest; the choice is always said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ...data.common import UsageError
from ...training.checkpoint import checkpoints_folder, list_checkpoints
from ..console import print_messages
from ..process import is_held
from .run_folder import (
    ANY_RUN,
    LOCK,
    SWEEP,
    find_run,
    is_run,
    is_sweep,
    names_by_age,
    point_folder,
    read_json,
    runs_root,
)
from .run_status import all_runs
from .slurm_status import merge_job_status, query_jobs

_NAMED = 5  # of several runs, in an error


def current_run(wanted: Callable[[Path], bool] = lambda _: True) -> str:
    """Choose the run to look at or to use: the newest that runs, else the newest.

    Args:
        wanted: tells whether the command could do anything with a run's folder.

    Raises:
        UsageError: there is none.
    """
    folders = [folder for folder in _newest_first() if wanted(folder)]
    running = next((folder for folder in folders if is_held(folder / LOCK)), None)
    if running is not None:
        return _said(running, "which is running")
    if not folders:
        raise _nothing("no run that this could be about")
    return _said(folders[0], "the newest")


def running_run(what: str) -> str:
    """Choose the run to end or to ask: the only one that runs or waits; a guess among several could destroy work.

    Args:
        what: the command.

    Raises:
        UsageError: there is none, or there are several.
    """
    found = all_runs(runs_root())
    answer = query_jobs(run.folder for run in found)
    live = _with_sweeps([run.folder for run in found if not merge_job_status(run, answer).is_over])
    if not live:
        raise _nothing("no run that is running")
    if len(live) > 1:
        names = [folder.name for folder in live[:_NAMED]]
        more = f" and {len(live) - _NAMED} more" if len(live) > _NAMED else ""
        raise UsageError(
            f"{len(live)} runs are running: {', '.join(names)}{more}",
            f"say which: `launch {what} {names[0]}`",
        )
    return _said(live[0], "the only one that is running")


def _with_sweeps(live: list[Path]) -> list[Path]:
    """Put each sweep that still runs in the place of its points: the end of one of them would begin the next."""
    for sweep in sorted(path.parent for path in runs_root().glob(f"*/{SWEEP}")):
        document = read_json(sweep / SWEEP)
        points = {point_folder(sweep, index) for index in range(len(document.get("points") or ()))}
        if is_held(sweep / LOCK) or (document.get("slurm") and points.intersection(live)):
            live = [sweep, *(folder for folder in live if folder not in points)]
    return live


def compared_runs(names: Sequence[str]) -> tuple[str, str]:
    """Choose the two runs to compare: those named, else the newest ones, the older first.

    Raises:
        UsageError: there are not two.
    """
    if len(names) == 2:  # noqa: PLR2004 - a pair
        return names[0], names[1]
    named = {find_run(name) for name in names}
    others = [folder for folder in _newest_first() if is_training(folder) and folder not in named]
    if len(others) < 2 - len(names):
        raise _nothing(
            "no pair of trainings to compare" if not names else "no other training to compare it with"
        )
    if names:
        return names[0], _said(others[0], "the newest other one")
    _said(others[1], "the newest but one")
    return others[1].name, _said(others[0], "the newest")


def can_resume(folder: Path) -> bool:
    """Tell whether a run is one that ``launch resume`` continues or sends again: no script."""
    return is_training(folder) or (folder / "job.json").is_file()


def is_training(folder: Path) -> bool:
    """Tell whether a run is a training that has begun."""
    return (folder / "spec.json").is_file()


def has_checkpoint(folder: Path) -> bool:
    """Tell whether a training has a checkpoint that could be used."""
    return is_training(folder) and bool(list_checkpoints(checkpoints_folder(folder)))


def names_run(word: str | None) -> bool:
    """Tell whether a word of the command line names a run that exists."""
    if word is None:
        return False
    with suppress(OSError, ValueError):  # a name that no folder can have
        return any(is_run(folder) for folder in (runs_root() / word, Path(word).resolve()))
    return False


def _newest_first() -> list[Path]:
    root = runs_root()
    folders = [root / name for name in reversed(names_by_age(ANY_RUN))]
    return [folder for folder in folders if not is_sweep(folder)]


def _said(folder: Path, why: str) -> str:
    print_messages([f"note: no RUN was named: this is {folder.name}, {why}"])
    return folder.name


def _nothing(what: str) -> UsageError:
    return UsageError(
        f"no RUN was named, and there is {what} in {runs_root()}",
        "name one, or its folder; LOCKSTEP_RUNS says where runs are",
    )

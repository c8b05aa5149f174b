"""``launch status``: one run in full, or all of them as a table, once or with ``--watch`` again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..console import format_duration, format_metric, print_json, print_results, redraw, sparkline
from ..process import LockOwner
from ..runs import (
    ANY_RUN,
    RunPace,
    Status,
    all_runs,
    attempts,
    describe_job,
    find_run,
    format_age_of,
    is_sweep,
    job_summary,
    merge_job_status,
    query_jobs,
    read_losses,
    read_pace,
    read_status,
    runs_root,
    statuses,
)
from ..slurm import newest_log
from ..sweep import (
    Sweep,
    SweepPoint,
    align_columns,
    all_sweeps,
    overall,
    points_of,
    read_sweep,
    results_of,
    table_lines,
    to_json,
    write_results,
)

_EVERY_SECONDS = 1.0
_SAID = 3  # of runs that gave up; a table is to stay one
_CURVE = 40  # characters of the loss
_MINOR = ("val/count", "val/loss")


def show_status(name: str | None, *, watch: bool, as_json: bool, sort: str | None = None) -> int:
    """Print the status of a run or of all runs; the exit status.

    Args:
        name: a run; None for a table of all of them.
        watch: print it again as it changes: on a terminal in its place, until the run is over.
        as_json: one document, or while watching one on each line.
        sort: of a sweep's table: a metric or a varied key.
    """
    if name is None:
        root = runs_root()
        return _repeat(lambda: _all(root), watch=watch, as_json=as_json)
    folder = find_run(name, ANY_RUN)
    if is_sweep(folder):
        return _repeat(lambda: _sweep(folder, sort), watch=watch, as_json=as_json)
    return _repeat(lambda: _one(folder), watch=watch, as_json=as_json)


_View = tuple[dict[str, Any], list[str], bool]
"""The JSON document, the same as lines of text, and whether nothing will change any more."""


def _repeat(look: Callable[[], _View], *, watch: bool, as_json: bool) -> int:
    before: object = None
    while True:
        document, table_lines, is_over = look()
        if as_json:
            going_on = document == before or print_json({"schema_version": 1, **document}, on_one_line=watch)
            before = document
        elif watch and sys.stdout is not None and sys.stdout.isatty():
            going_on = redraw(table_lines)
        else:
            going_on = table_lines == before or print_results(table_lines)
            before = table_lines
        if not watch or is_over or not going_on:
            return 0
        time.sleep(_EVERY_SECONDS)


def _one(folder: Path) -> _View:
    status = merge_job_status(read_status(folder), query_jobs([folder], accounts=True))
    pace = read_pace(folder, status.plan, time.time()) if status.plan and not status.is_over else None
    losses = read_losses(folder, _CURVE)
    document = status.to_json() | {
        "samples_per_second": pace and pace.samples_per_second,
        "seconds_left": pace and pace.seconds_left,
    }
    return document, details(status, pace, losses), status.is_over


def _sweep(folder: Path, sort: str | None) -> _View:
    sweep = read_sweep(folder)
    known, problem = statuses(map(sweep.run, range(len(sweep.points))), accounts=True)
    results = results_of(sweep, sort, known)
    write_results(results)
    document = to_json(results)
    shown = [*table_lines(results), *_unasked(problem)]
    return document, shown, document["status"] in ("done", "failed", "stopped", "cancelled")


def _all(root: Path) -> _View:
    found = all_runs(root)
    answer = query_jobs(run.folder for run in found)
    known = {run.folder: merge_job_status(run, answer) for run in found}
    sweeps = [(sweep, points_of(sweep, known)) for sweep in all_sweeps(root)]
    points = {sweep.run(index) for sweep, _ in sweeps for index in range(len(sweep.points))}
    runs = [run for folder, run in known.items() if folder not in points]
    shown = [*_table(runs), *_gave_up(runs), *_sweep_rows(sweeps)] or [f"no runs in {root}"]
    shown += _unasked(answer.problem)
    document = {
        "runs": [run.to_json() for run in known.values()],
        "sweeps": [_brief(*pair) for pair in sweeps],
    }
    return document, shown, False


def _unasked(problem: str) -> list[str]:
    return (
        [f"SLURM could not be asked: {problem}; its runs stand here as their folders say"] if problem else []
    )


def _brief(sweep: Sweep, points: list[SweepPoint]) -> dict[str, Any]:
    return {"sweep": sweep.folder.name, "status": overall(points), "points": [point.run for point in points]}


def _sweep_rows(sweeps: Sequence[tuple[Sweep, list[SweepPoint]]]) -> list[str]:
    """Lay out one row for each sweep; its points have a table of their own."""
    rows = [["sweep", "status", "done", "varies"]] if sweeps else []
    for sweep, points in sweeps:
        done = sum(point.status == "done" for point in points)
        rows.append(
            [sweep.folder.name, overall(points), f"{done} of {len(points)}", " ".join(sweep.labels.values())]
        )
    return align_columns(rows, left={0, 1, 2, 3}) if rows else []


def _table(runs: Sequence[Status]) -> list[str]:
    """Lay out one row for each run, with a column for SLURM jobs only where there are some."""
    if not runs:
        return []
    rows = [["run", "status", "epochs", "steps", "metric", "age"]]
    rows += [
        [
            run.folder.name,
            run.status,
            "" if run.is_program else f"{run.epoch:,}{f'/{run.epochs:,}' if run.epochs else ''}",
            "" if run.is_program else f"{run.step:,}",
            _main(run.metrics),
            format_age_of(run),
        ]
        for run in runs
    ]
    if any(run.slurm for run in runs):
        for row, job in zip(rows, ["SLURM", *map(job_summary, runs)], strict=True):
            row.append(job)
    return align_columns(rows, left={0, 1, 4, 6})


def _gave_up(runs: Sequence[Status]) -> list[str]:
    """Name the newest runs that gave up, and why; the table marks all of them."""
    found = [run for run in runs if run.gave_up]
    said = [f"{run.folder.name} gave up: {run.gave_up}" for run in found[:_SAID]]
    return [*said, f"`launch status {found[0].folder.name}` says what to do"] if found else []


def _main(metrics: Mapping[str, float | None]) -> str:
    """Choose the metric to show: one of the validation data, else a loss."""
    names = [name for name in metrics if name.startswith("val/") and name not in _MINOR]
    names += [name for name in ("val/loss", "train/loss") if name in metrics]
    return f"{names[0].replace('/', ' ')} {format_metric(names[0], metrics[names[0]])}" if names else ""


def details(status: Status, pace: RunPace | None = None, losses: Sequence[float | None] = ()) -> list[str]:
    """Lay out what ``launch status RUN`` prints.

    Args:
        status: of the run.
        pace: of a run that has not ended.
        losses: all over its record.
    """
    owner = f": {status.owner}{_started(status.owner)}" if status.owner else ""
    head = status.status
    if status.was_interrupted:
        head = "failed: its launcher ended without an outcome" if not status.slurm else "failed: no outcome"
    if status.status == "stopped" and not status.outcome and not attempts(status.folder):
        head = "stopped before it began"
    shown = [
        f"{status.folder.name} is {head}{owner}" if not status.is_over else f"{status.folder.name}: {head}"
    ]
    if status.metrics or status.step:
        shown += _progress(status, pace)
    if len(losses) > 1 and (curve := sparkline(losses)):
        ends = [format_metric("train/loss", losses[place]) for place in (0, -1)]
        shown.append(f"loss  {curve}  from {ends[0]} to {ends[1]}")
    shown += describe_job(status)
    error = str((status.outcome.get("error") or {}).get("message", ""))
    shown += [f"error: {error.splitlines()[0]}"] if error and error != status.gave_up else []
    shown += [f"gave up: {status.gave_up}"] if status.gave_up else []
    if status.was_interrupted and (log := newest_log(status.folder)):
        shown.append(f"its last job's log: {log}")
    if numbers := attempts(status.folder):
        shown.append(f"logs: {status.folder}/attempt-{numbers[-1]}  (`launch logs {status.folder.name}`)")
    if status.is_resumable:
        anew = ", which counts its attempts anew, when you have seen to that" if status.gave_up else ""
        shown.append(f"resume it with `launch resume {status.folder.name}`{anew}")
    return shown


def _progress(status: Status, pace: RunPace | None) -> list[str]:
    """Say how far a run is, and what its newest metrics are."""
    figures = [
        f"{key.replace('/', ' ')} {format_metric(key, value)}"
        for key, value in status.metrics.items()
        if key != "val/count"
    ]
    age = f"{format_age_of(status)} ago"
    if pace is None:
        of = (f" of {status.epochs:,}", f" of {status.plan['steps']:,}") if _is_short(status) else ("", "")
        done = f"{status.epoch:,}{of[0]} epochs, {status.step:,}{of[1]} steps"
        return [f"{', '.join([done, *figures])}; {age}"]
    steps = status.plan["steps"]
    epoch = min(status.epoch + 1, status.epochs)
    parts = [f"epoch {epoch:,}/{status.epochs:,}", f"step {status.step:,}/{steps:,}"]
    parts[1] += f" ({100 * status.step // steps} %)"
    parts += [f"{pace.samples_per_second:,.0f} samples/s"] if pace.samples_per_second else []
    parts += [f"{format_duration(pace.seconds_left)} left"] if pace.seconds_left is not None else []
    return [f"{', '.join(parts)}; {age}", *([", ".join(figures)] if figures else [])]


def _is_short(status: Status) -> bool:
    return bool(status.plan) and status.step < status.plan["steps"]


def _started(owner: LockOwner) -> str:
    return time.strftime(", since %Y-%m-%d %H:%M:%S", time.localtime(owner.time))

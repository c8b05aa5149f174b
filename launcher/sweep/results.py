"""A sweep's results: a row for each point, the best one, ``results.csv``, and one JSON document."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.common import LockstepError, UsageError, closest_name, write_text
from ...training.config import Direction, direction_of
from ..console import format_metric, print_json, print_messages, print_results
from ..runs import Status, job_summary
from .sweep_folder import Sweep, SweepPoint, overall, points_of

RESULTS = "results.csv"
_MINOR = ("val/count", "val/loss")


@dataclass(frozen=True)
class SweepRow:
    """A point and the best it reached."""

    point: SweepPoint
    metrics: Mapping[str, float | None]
    """The newest of each: a run that was stopped within an epoch keeps the values of the last whole one."""
    best: float | None
    """Of the sweep's main metric, over all epochs."""
    epoch: int | None
    """In which, counted from 1."""


@dataclass(frozen=True)
class Results:
    """The results of a sweep at one moment."""

    sweep: Sweep
    metrics: list[str]
    """Every metric that a point has, the main one first."""
    rows: list[SweepRow]
    """In the order that was asked for."""
    direction: Callable[[str], Direction | None] = direction_of
    """Which way of a metric is better."""

    @property
    def main(self) -> str:
        """The metric that points are judged by; empty before one was measured of which the better way is known."""
        return _main_metric(self.metrics, self.direction)

    @property
    def points(self) -> list[SweepPoint]:
        """The points in their own order."""
        return sorted((row.point for row in self.rows), key=lambda point: point.index)

    @property
    def winner(self) -> SweepRow | None:
        """The row with the best value of the main metric."""
        way = self.direction(self.main)
        rated = [row for row in self.rows if _rated(way, row.best) > -math.inf]
        return max(rated, key=lambda row: (_rated(way, row.best), -row.point.index), default=None)


def results_of(sweep: Sweep, sort: str | None = None, known: Mapping[Path, Status] | None = None) -> Results:
    """Collect the results of every point.

    Args:
        sweep: theirs.
        sort: a metric, best first; a varied key; None for the order of the points.
        known: runs that were looked at already, in the light of what SLURM says.

    Raises:
        UsageError: there is nothing of that name to sort by.
    """
    points = points_of(sweep, known)
    epochs = [_epochs(sweep.run(point.index)) for point in points]
    newest = [_values(rows) | dict(point.metrics) for rows, point in zip(epochs, points, strict=True)]
    metrics = _metrics(newest)
    direction = _directions(sweep, points)
    main = _main_metric(metrics, direction)
    rows = [
        SweepRow(point, values, *_best_value(events, main, direction(main)))
        for point, values, events in zip(points, newest, epochs, strict=True)
    ]
    return Results(sweep, metrics, _sorted(sweep, rows, metrics, sort, direction), direction)


def _directions(sweep: Sweep, points: Sequence[SweepPoint]) -> Callable[[str], Direction | None]:
    """Return which way of a metric is better: as the config of a point that was started says, else as its name does."""
    from ...training.config import read_spec  # pydantic, which `launch status` of a run does without

    for point in points:
        with suppress(LockstepError, OSError):  # not started, or a spec of another version
            return read_spec(sweep.run(point.index) / "spec.json").config.direction_of
    return direction_of


def _main_metric(metrics: Sequence[str], direction: Callable[[str], Direction | None]) -> str:
    return next(filter(direction, metrics), "")


def _metrics(newest: Sequence[Mapping[str, float | None]]) -> list[str]:
    names = dict.fromkeys(name for values in newest for name in values if name != "val/count")
    ranked = [name for name in names if name.startswith("val/") and name not in _MINOR]
    ranked += [name for name in ("val/loss", "train/loss") if name in names]
    return list(dict.fromkeys([*ranked, *names]))


def _epochs(folder: Path) -> list[dict[str, Any]]:
    """Read the epochs and evaluations of a run's record, oldest first."""
    found = []
    with suppress(OSError), (folder / "metrics.jsonl").open("rb") as record:
        for line in record:
            if b'"epoch"' in line and b'"event": "step"' not in line:
                with suppress(ValueError, KeyError):
                    event = json.loads(line)
                    found += [event] if event["event"] in ("epoch", "evaluation") else []
    return found


def _values(epochs: list[dict[str, Any]]) -> dict[str, float | None]:
    """Return the newest numbers; where an epoch was not evaluated, those of the evaluation before it, too."""
    evaluated: dict[str, Any] = next(
        (row for row in reversed(epochs) if any(key.startswith("val/") for key in row)), {}
    )
    newest = {**evaluated, **(epochs or [{}])[-1]}
    return {key: value for key, value in newest.items() if key.startswith(("train/", "val/"))}


def _best_value(
    epochs: list[dict[str, Any]], metric: str, way: Direction | None
) -> tuple[float | None, int | None]:
    """Return the best value of a metric and its epoch, counted from 1."""
    best: tuple[float | None, int | None] = None, None
    for event in epochs:
        if _rated(way, event.get(metric)) > _rated(way, best[0]):
            best = event[metric], event["epoch"] + 1
    return best


def _rated(way: Direction | None, value: float | None) -> float:
    """Return a value's rating: more is better, unless it is known to be worse, and what is not a number is worst."""
    if value is None or not math.isfinite(value):
        return -math.inf
    return -value if way == "min" else value


def _sorted(
    sweep: Sweep,
    rows: list[SweepRow],
    metrics: list[str],
    sort: str | None,
    direction: Callable[[str], Direction | None],
) -> list[SweepRow]:
    if sort in (None, "point"):
        return rows
    if sort in metrics:
        if direction(sort) is None:
            print_messages(
                [f"note: {sort} is sorted from high to low; its name does not tell which way is better"]
            )
        return sorted(rows, key=lambda row: -_rated(direction(sort), row.metrics.get(sort)))
    keys = {name: key for key, label in sweep.labels.items() for name in (key, label)}
    if sort not in keys:
        known = ["point", *metrics, *sweep.labels.values()]
        near = closest_name(sort or "", known)
        raise UsageError(
            f"--sort {sort}: no such column" + (f"; did you mean {near}?" if near else ""),
            f"sort by one of {', '.join(known)}",
        )
    return sorted(rows, key=lambda row: _order(row.point.values[keys[sort]]))


def _parsed(text: str) -> Any:
    from ..config import parse_value

    return parse_value(text)[0]


def _order(text: str) -> tuple[int, float, str]:
    value = _parsed(text)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, text)


def table_lines(results: Results) -> list[str]:
    """Return the lines of the table, and of the summary below it."""
    sweep = results.sweep
    head = [
        "point",
        *sweep.labels.values(),
        "status",
        "epochs",
        *(m.replace("/", " ") for m in results.metrics),
    ]
    head += [f"best {results.main.partition('/')[2]}", "at epoch"] if results.main else []
    head += ["SLURM"] if sweep.slurm else []
    words = {0, 1 + len(sweep.axes)} | ({len(head) - 1} if sweep.slurm else set())
    table = align_columns([head, *(_cells(results, row) for row in results.rows)], left=words)
    return [*table, *_failures(results.points), *_verdict(results)]


def _cells(results: Results, row: SweepRow) -> list[str]:
    point = row.point
    found = row.metrics
    cells = [point.run, *point.values.values(), point.status]
    cells += [f"{point.found.epoch:,}" if point.found else ""]
    cells += [format_metric(name, found[name]) if name in found else "" for name in results.metrics]
    if results.main:
        best = "" if row.best is None else format_metric(results.main, row.best)
        cells += [best, "" if row.epoch is None else str(row.epoch)]
    if results.sweep.slurm:
        cells += [job_summary(point.found) if point.found else ""]
    return cells


def align_columns(rows: Sequence[Sequence[str]], left: set[int]) -> list[str]:
    """Align columns, each as wide as it needs to be, with numbers to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            f"{cell:<{width}}" if column in left else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _failures(points: list[SweepPoint]) -> list[str]:
    """Describe for each failed point what failed, and why no job continues it."""
    found = []
    for point in points:
        error, gave_up = str(point.error.get("message", "")), point.found.gave_up if point.found else ""
        if point.status == "failed" and error and error != gave_up:
            found.append(f"{point.run}: {error.splitlines()[0]}")
        if gave_up:
            found.append(f"{point.run} gave up: {gave_up}")
    return found


def _verdict(results: Results) -> list[str]:
    sweep, name, points = results.sweep, results.sweep.folder.name, results.points
    found = []
    if (best := results.winner) is not None:
        value = format_metric(results.main, best.best)
        where = sweep.words(best.point.index)
        found.append(
            f"best: {best.point.run} ({where}), {results.main.replace('/', ' ')} {value}, epoch {best.epoch}"
        )
    counts = {
        state: sum(point.status == state for point in points)
        for state in dict.fromkeys(p.status for p in points)
    }
    found.append(f"{name}: {overall(points)}; {', '.join(f'{n} {state}' for state, n in counts.items())}")
    if overall(points) == "failed":
        found.append(f"try the failed ones again with `launch sweep {name} --retry`")
    elif overall(points) in ("stopped", "cancelled"):
        found.append(f"resume it with `launch sweep {name}{' --submit' * sweep.slurm}`")
    return found


def to_json(results: Results) -> dict[str, Any]:
    """Return the sweep as ``--json`` prints it."""
    sweep, best = results.sweep, results.winner
    return {
        "sweep": sweep.folder.name,
        "sweep_dir": str(sweep.folder),
        "kind": "sweep",
        "status": overall(results.points),
        "exit_code": exit_code(results.points),
        "keys": list(sweep.axes),
        "metric": results.main or None,
        "best": None if best is None else best.point.run,
        "points": [_point_json(sweep, row) for row in results.rows],
    }


def _point_json(sweep: Sweep, row: SweepRow) -> dict[str, Any]:
    point = row.point
    found = point.found
    return {
        "index": point.index,
        "run": point.run,
        "run_dir": str(sweep.run(point.index)),
        "values": {key: _parsed(value) for key, value in point.values.items()},
        "status": point.status,
        "exit_code": point.exit_code,
        "error": dict(point.error) or None,
        **({"gave_up": found.gave_up or None, "slurm": dict(found.slurm)} if found and found.slurm else {}),
        "epoch": found.epoch if found else 0,
        "step": found.step if found else 0,
        "metrics": dict(row.metrics),
        "best": row.best,
        "best_epoch": row.epoch,
    }


def exit_code(points: list[SweepPoint]) -> int:
    """Return the exit status: 0 if all points are done, else the first failed point's, else 75: resumable."""
    failed = [point.exit_code or 1 for point in points if point.status == "failed"]
    return failed[0] if failed else 0 if overall(points) == "done" else 75


def write_results(results: Results) -> None:
    """Write ``results.csv`` atomically; in a folder that cannot be written, the table is still printed."""
    keys, metrics = list(results.sweep.axes), results.metrics
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    best = f"best {results.main}" if results.main else "best"
    table.writerow(["point", *keys, "status", "exit_code", "epochs", "steps", *metrics, best, "best_epoch"])
    for row in sorted(results.rows, key=lambda row: row.point.index):
        point, found = row.point, row.point.found
        progress = [found.epoch, found.step] if found else ["", ""]
        values = [row.metrics.get(name) for name in metrics]
        head = [point.run, *point.values.values(), point.status, point.exit_code]
        table.writerow([*head, *progress, *values, row.best, row.epoch])
    path = results.sweep.folder / RESULTS
    with suppress(OSError):
        if not path.exists() or path.read_text(encoding="utf-8") != text.getvalue():
            write_text(path, text.getvalue())


def report_results(results: Results, *, as_json: bool) -> None:
    """Print the table of results, and write it as ``results.csv``."""
    write_results(results)
    if as_json:
        print_json({"schema_version": 1, **to_json(results)})
    else:
        print_results(table_lines(results))

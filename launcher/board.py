"""``launch status``: one run in full, or all of them as a table, once or for as long as somebody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .console import figure, put, put_json, redraw
from .owner import Owner
from .runs import ANY_RUN, find_run, runs_root
from .status import Status, all_runs, attempts, read_status, since

_EVERY_SECONDS = 1.0
_MINOR = ("val/count", "val/loss")


def show(name: str | None, *, watch: bool, as_json: bool) -> int:
    """Print it; the exit status.

    Args:
        name: a run; None for a table of all of them.
        watch: print it again as it changes: on a terminal in its place, until the run is over.
        as_json: one document, or while watching one on each line.
    """
    if name is None:
        root = runs_root()
        return _repeat(lambda: _all(root), watch=watch, as_json=as_json)
    folder = find_run(name, ANY_RUN)
    return _repeat(lambda: _one(folder), watch=watch, as_json=as_json)


_View = tuple[dict[str, Any], list[str], bool]
"""The document, the lines for people, and whether nothing will change any more."""


def _repeat(look: Callable[[], _View], *, watch: bool, as_json: bool) -> int:
    before: object = None
    while True:
        document, lines, is_over = look()
        if as_json:
            going_on = document == before or put_json({"schema_version": 1, **document}, on_one_line=watch)
            before = document
        elif watch and sys.stdout is not None and sys.stdout.isatty():
            going_on = redraw(lines)
        else:
            going_on = lines == before or put(lines)
            before = lines
        if not watch or is_over or not going_on:
            return 0
        time.sleep(_EVERY_SECONDS)


def _one(folder: Path) -> _View:
    status = read_status(folder)
    return status.to_json(), _details(status), status.is_over


def _all(root: Path) -> _View:
    runs = all_runs(root)
    return {"runs": [run.to_json() for run in runs]}, _table(runs) or [f"no runs in {root}"], False


def _table(runs: Sequence[Status]) -> list[str]:
    """A row for each run, columns as wide as they need to be."""
    rows = [("run", "status", "epochs", "steps", "metric", "age")] if runs else []
    rows += [
        (run.folder.name, run.status, f"{run.epoch:,}", f"{run.step:,}", _main(run.metrics), since(run))
        for run in runs
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(6)] if rows else []
    right = (2, 3, 5)
    return [
        "  ".join(
            f"{cell:>{width}}" if column in right else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _main(metrics: Mapping[str, float | None]) -> str:
    """What the run is judged by: a metric of the validation data, else a loss."""
    names = [name for name in metrics if name.startswith("val/") and name not in _MINOR]
    names += [name for name in ("val/loss", "train/loss") if name in metrics]
    return f"{names[0].replace('/', ' ')} {figure(names[0], metrics[names[0]])}" if names else ""


def _details(status: Status) -> list[str]:
    owner = f": {status.owner}{_started(status.owner)}" if status.owner else ""
    head = "failed: its launcher ended without an outcome" if status.was_interrupted else status.status
    lines = [
        f"{status.folder.name} is {head}{owner}" if not status.is_over else f"{status.folder.name}: {head}"
    ]
    if status.metrics or status.step:
        figures = "".join(
            f", {key.replace('/', ' ')} {figure(key, value)}"
            for key, value in status.metrics.items()
            if key != "val/count"
        )
        lines.append(f"{status.epoch:,} epochs, {status.step:,} steps{figures}; {since(status)} ago")
    if error := status.outcome.get("error"):
        lines += [f"error: {line}" for line in str(error.get("message", "")).split("\n")[:1]]
    if numbers := attempts(status.folder):
        lines.append(f"logs: {status.folder}/attempt-{numbers[-1]}  (`launch logs {status.folder.name}`)")
    if status.can_go_on:
        lines.append(f"go on with `launch resume {status.folder.name}`")
    return lines


def _started(owner: Owner) -> str:
    return time.strftime(", since %Y-%m-%d %H:%M:%S", time.localtime(owner.time))

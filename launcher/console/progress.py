"""A training's progress: one row per epoch and, on a terminal, a bar."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from .console import say, write

_LARGE = 1000  # above it four decimals are noise
_WIDTH = 13  # of a column at least; a longer name makes it wider
_NAMED = 5  # parameters in a note
_HUGE = 1e7  # above it a column would not hold it


class EpochTable:
    """A table with one row per epoch, read from the run's events; on a terminal also a bar that shows the current step.

    Args:
        events: ``metrics.jsonl``; it need not exist yet. What it holds already is not shown again.
        steps: optimizer steps of the whole run.
        to: where rows go; ``stdout`` or ``stderr``.
    """

    def __init__(self, events: Path, steps: int, to: TextIO | None) -> None:
        self._path = events
        self._steps = steps
        self._to = to
        self._file: TextIO | None = None
        self._pending = ""
        self._columns: list[str] = []
        self._writing: tuple[Path, int] | None = None
        self._bar = _Bar(steps) if sys.stderr is not None and sys.stderr.isatty() else None
        self.longest_checkpoint = 0.0
        """Seconds that one has taken so far."""
        self.reopen()  # of a resumed run, earlier epochs were shown before

    def update(self) -> None:
        """Show what has been written since the last call."""
        if self._file is None:
            if not self._path.exists():
                return
            self._file = self._path.open(encoding="utf-8")
        while text := self._file.readline():
            self._pending += text
            if self._pending.endswith("\n"):
                event, self._pending = json.loads(self._pending), ""
                self._show(event)
        if self._writing is not None and self._bar is not None:
            self._bar.beside(f"  checkpoint {_share_written(*self._writing):.0%}")

    def reopen(self) -> None:
        """Open the record again after it was cut; what it holds has been shown."""
        self.close()
        self._pending = ""
        self._writing = None
        if self._path.exists():
            self._file = self._path.open(encoding="utf-8")
            self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.hide()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _show(self, event: dict[str, Any]) -> None:
        if event["event"] == "step" and self._bar is not None:
            self._bar.show(event)
        elif event["event"] in ("epoch", "evaluation"):
            if self._bar is not None:
                self._bar.hide()
            self._row(event)
        elif event["event"] == "start":
            self._start(event)
        elif event["event"] == "checkpoint_started":
            self._writing = Path(event["path"]), event["bytes"]
        elif event["event"] == "checkpoint":
            self.longest_checkpoint = max(self.longest_checkpoint, float(event["seconds"]))
            self._written()
        elif event["event"] == "profile":
            say(profile_rows(event))
        elif event["event"] in _NOTES:
            say([f"note: {_NOTES[event['event']](event)}"])
        elif event["event"] == "checkpoint_failed":
            self._written()
            say([f"warning: {event['message']}; training continues"])

    def _written(self) -> None:
        self._writing = None
        if self._bar is not None:
            self._bar.beside("")

    def _start(self, event: dict[str, Any]) -> None:
        """Print what the user should know before the first step."""
        say(f"note: {note}" for note in event.get("notes", ()))
        if event.get("depends_on_world"):
            what = " and ".join(event["depends_on_world"])
            say([f"note: the model has {what}: its results depend on the number of processes"])
        if event.get("unused_parameters"):
            unused = event["unused_parameters"]
            reached = f"note: in the first samples the loss does not reach {len(unused)} parameters"
            say([f"{reached}: {', '.join(unused[:_NAMED])}"])

    def _row(self, event: dict[str, Any]) -> None:
        """Print the row of an epoch, or of an evaluation within one, which is named by its step."""
        head = ""
        keys = [key for key in event if key.startswith(("train/", "val/")) and key != "val/count"]
        evaluated = any(key.startswith("val/") for key in keys)
        if not self._columns or (evaluated and not any(key.startswith("val/") for key in self._columns)):
            self._columns += [key for key in keys if key not in self._columns]
            heads = "".join(f"  {key.replace('/', ' '):>{_WIDTH}}" for key in self._columns)
            head = f"epoch{heads}  {'samples/s':>11}  {'seconds':>8}\n"
        values = "".join(
            f"  {format_metric(key, event[key]) if key in event else '':>{max(_WIDTH, len(key))}}"
            for key in self._columns
        )
        seconds = event.get("train_seconds", 0.0) + event.get("val_seconds", 0.0)
        rate = event.get("samples_per_second")
        speed = f"  {'' if rate is None else f'{rate:,.0f}':>11}  {seconds:>8.2f}\n"
        name = f"@{event['step']}" if event["event"] == "evaluation" else str(event["epoch"] + 1)
        write(self._to, f"{head}{name:>5}{values}{speed}")


class _Bar:
    """rich's progress bar on stderr; it knows what the terminal can do, and leaves no trace."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._progress: Any = None
        self._text = self._beside = ""

    def show(self, event: dict[str, Any]) -> None:
        """Move to the event's step."""
        if self._progress is None:
            self._start()
        if "train/loss" not in event:  # what a hook has logged of a step in between
            return
        loss = format_metric("train/loss", event["train/loss"])
        self._text = f"epoch {event['epoch'] + 1}  loss {loss}"
        self._progress.update(0, completed=event["step"], description=self._text + self._beside)

    def beside(self, text: str) -> None:
        """Show what happens at the same time; an empty text shows nothing."""
        if text != self._beside:
            self._beside = text
            if self._progress is not None:
                self._progress.update(0, description=self._text + text)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(
            *columns, console=Console(stderr=True), transient=True, refresh_per_second=4
        )
        self._progress.add_task("", total=self._steps)
        self._progress.start()

    def hide(self) -> None:
        """Make room for lines that stay."""
        if self._progress is not None:
            with suppress(OSError, ValueError):
                self._progress.stop()
            self._progress = None


def _early_stop_note(event: dict[str, Any]) -> str:
    """Say why a run has ended early; a metric may never have been a number."""
    epochs = f"{event['stalled']} {event.get('unit', 'epoch')}{'s' * (event['stalled'] != 1)}"
    if event["best"] is None:
        return f"ended early: {event['monitor']} has not been a number for {epochs}"
    return f"ended early: {event['monitor']} has not improved for {epochs}; best {event['best']:.6g}"


def _unreached_note(event: dict[str, Any]) -> str:
    """Say which parameters were left out by how many steps of an epoch."""
    missed, steps = event["missed"], event["steps"]
    shown = ", ".join(f"{name} in {count:,}" for name, count in [*missed.items()][:_NAMED])
    more = f" and {len(missed) - _NAMED} more" if len(missed) > _NAMED else ""
    what = f"of the {steps:,} steps of epoch {event['epoch'] + 1} the loss does not reach {shown}{more}"
    return f"{what}; such a step leaves them as they are (train.unused)"


def _straggler_note(event: dict[str, Any]) -> str:
    lag, share = event["lag_milliseconds"], event["share"]
    what = f"rank {event['rank']} is slower than the others, which wait {lag:.2f} ms a step for it"
    return f"{what}: {share:.0%} of {event['steps']} steps' time"


_NOTES: dict[str, Callable[[dict[str, Any]], str]] = {
    "early_stop": _early_stop_note,
    "unreached": _unreached_note,
    "straggler": _straggler_note,
    "note": lambda event: str(event["message"]),
}
"""Events that are a line for the user."""


_PHASE_TITLES = {"data": "waiting for data", "other": "idle or other"}


def profile_rows(event: dict[str, Any]) -> list[str]:
    """Return a profile as a table: where the time of its steps goes, on the average of the ranks."""
    mean, count = event["milliseconds"], len(event["ranks"])
    whole = sum(mean.values()) or 1.0
    rows = [f"steps {event['first']:,} to {event['last']:,}     ms a step        share"]
    rows += [
        f"{_PHASE_TITLES.get(name, name):<20}  {value:>12.3f}  {value / whole:>11.1%}"
        for name, value in mean.items()
    ]
    if count > 1:
        rows.append(
            f"slowest: rank {event['slowest_rank']}, {event['lag_milliseconds']:.3f} ms behind the fastest"
        )
    return [
        *rows,
        "the trace of each rank is in profile/ of the run's folder; Perfetto and chrome://tracing show it",
    ]


def _share_written(folder: Path, size: int) -> float:
    """Compute which share of a checkpoint has been written to its temporary folder."""
    try:
        there = sum(path.stat().st_size for path in folder.iterdir())
    except OSError:  # not begun yet, or just committed
        return 0.0
    return min(1.0, there / max(1, size))


def format_metric(key: str, value: float | None) -> str:
    """Format a metric's value in few characters; an accuracy as a percentage."""
    if value is None:
        return "nan"
    if key.endswith("accuracy"):
        return f"{value:.2%}"
    if abs(value) >= _HUGE:
        return f"{value:.3e}"
    return f"{value:.{4 if abs(value) < _LARGE else 2}f}"

"""A training's progress: one row per epoch, and between the rows a bar or a line now and then."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TextIO

from .console import known_width, print_messages, write
from .epoch_columns import EpochColumns, epoch_columns
from .event_notes import event_lines
from .formats import format_metric
from .progress_view import ProgressView


class EpochTable:
    """A table with one row per epoch, read from the run's events, and what is shown between the rows.

    Args:
        events: ``metrics.jsonl``; it need not exist yet. What it holds already is not shown again.
        view: shows the steps in between.
        to: where rows go; ``stdout`` or ``stderr``.
    """

    def __init__(self, events: Path, view: ProgressView, to: TextIO | None) -> None:
        self._path = events
        self._view = view
        self._to = to
        self._file: TextIO | None = None
        self._pending = ""
        self._keys: list[str] = []
        """Of the metrics of the table, also of those that a line has no room for."""
        self._columns: EpochColumns | None = None
        self._has_evaluated = False
        self._writing: tuple[Path, int] | None = None
        self.longest_checkpoint = 0.0
        """Seconds that one has taken so far."""
        self._open_at_end()  # of a resumed run, earlier epochs were shown before

    def update(self, step: int, phase: str) -> None:
        """Show what has been written since the last call, and how far the ranks are.

        Args:
            step: done by the ranks.
            phase: what they do, as their page names it.
        """
        self._read()
        beside = f"checkpoint {_share_written(*self._writing):.0%}" if self._writing else ""
        self._view.show(step, phase, beside)

    def _read(self) -> None:
        if self._file is None:
            if not self._path.exists():
                return
            self._file = self._path.open(encoding="utf-8")
        while text := self._file.readline():
            self._pending += text
            if self._pending.endswith("\n"):
                event, self._pending = json.loads(self._pending), ""
                self._show(event)

    def restart(self, first_step: int) -> None:
        """Open the record again after it was cut; what it holds has been shown."""
        self._open_at_end()
        self._view.restart(first_step)

    def _open_at_end(self) -> None:
        self._close_file()
        self._pending = ""
        self._writing = None
        if self._path.exists():
            self._file = self._path.open(encoding="utf-8")
            self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Show the rest."""
        self._read()
        self._close_file()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _show(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "step":
            self._view.take(event)
        elif kind in ("epoch", "evaluation"):
            self._row(event)
        elif kind == "checkpoint_started":
            self._writing = Path(event["path"]), event["bytes"]
        elif kind in ("checkpoint", "checkpoint_failed"):
            self._writing = None
            self.longest_checkpoint = max(self.longest_checkpoint, float(event.get("seconds", 0.0)))
        if lines := event_lines(event):
            print_messages(lines)

    def _row(self, event: dict[str, Any]) -> None:
        """Print the row of an epoch, or of an evaluation within one, which is named by its step."""
        head = ""
        keys = [key for key in event if key.startswith(("train/", "val/")) and key != "val/count"]
        evaluated = any(key.startswith("val/") for key in keys)
        shown = self._columns
        if shown is None or (evaluated and not self._has_evaluated):
            self._keys += [key for key in keys if key not in self._keys]
            self._columns = shown = epoch_columns(self._keys, known_width(self._to))
            head = shown.heads()
        self._has_evaluated |= evaluated
        seconds = event.get("train_seconds", 0.0) + event.get("val_seconds", 0.0)
        rate = event.get("samples_per_second")
        values = {key: format_metric(key, event[key]) for key in keys}
        values |= {"samples/s": "" if rate is None else f"{rate:,.0f}", "seconds": f"{seconds:.2f}"}
        name = f"@{event['step']}" if event["event"] == "evaluation" else str(event["epoch"] + 1)
        write(self._to, f"{head}{shown.row(name, values)}")


def _share_written(folder: Path, size: int) -> float:
    """Compute which share of a checkpoint has been written to its temporary folder."""
    try:
        there = sum(path.stat().st_size for path in folder.iterdir())
    except OSError:  # not begun yet, or just committed
        return 0.0
    return min(1.0, there / max(1, size))

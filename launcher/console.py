"""What people see: plan, progress, epochs as rows, and one card when it goes wrong. The only file that prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from ..data.errors import LockstepError

_LARGE = 1000  # above it four decimals are noise
_ESCAPES = {code: None for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"}


def plain(text: str) -> str:
    """``text`` without control characters, which a terminal would obey."""
    return text.translate(_ESCAPES)


def say(lines: Iterable[str]) -> None:
    """Words for people, on stderr."""
    for line in lines:
        sys.stderr.write(plain(line) + "\n")
    sys.stderr.flush()


def put(lines: Iterable[str]) -> None:
    """Data, on stdout."""
    for line in lines:
        sys.stdout.write(plain(line) + "\n")
    sys.stdout.flush()


def put_json(document: dict[str, Any]) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
    sys.stdout.flush()


def card(error: LockstepError) -> None:
    """The failure card: what happened and where, then what to do."""
    lines = error.message.split("\n")
    say([f"error: {lines[0]}", *(f"  {line}" for line in lines[1:])])
    if error.hint:
        say([f"hint: {error.hint}"])


class EpochTable:
    """One row per epoch, read from the run's events; on a terminal also a line that shows the present step.

    Args:
        events: ``metrics.jsonl``; it need not exist yet.
        steps: optimizer steps of the whole run.
        to: where rows go.
    """

    def __init__(self, events: Path, steps: int, to: TextIO) -> None:
        self._path = events
        self._steps = steps
        self._to = to
        self._file: TextIO | None = None
        self._pending = ""
        self._columns: list[str] = []
        self._live = sys.stderr.isatty()
        if events.exists():  # a run that goes on: its earlier epochs were shown before
            self._file = events.open(encoding="utf-8")
            self._file.seek(0, 2)

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

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._clear()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _show(self, event: dict[str, Any]) -> None:
        if event["event"] == "step" and self._live:
            done = f"epoch {event['epoch'] + 1}  step {event['step']:,}/{self._steps:,}  loss {event['train/loss']:.4f}"
            sys.stderr.write(f"\r\x1b[K{done}")
            sys.stderr.flush()
        elif event["event"] == "epoch":
            self._clear()
            self._row(event)
        elif event["event"] == "start" and event["unused_parameters"]:
            names = ", ".join(event["unused_parameters"][:5])
            say([f"note: the loss does not reach {len(event['unused_parameters'])} parameters: {names}"])

    def _clear(self) -> None:
        if self._live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _row(self, event: dict[str, Any]) -> None:
        if not self._columns:
            self._columns = [
                key for key in event if key.startswith(("train/", "val/")) and key != "val/count"
            ]
            heads = "".join(f"  {key.replace('/', ' '):>13}" for key in self._columns)
            self._to.write(f"epoch{heads}  {'samples/s':>11}  {'seconds':>8}\n")
        values = "".join(f"  {_cell(key, event[key]):>13}" for key in self._columns)
        seconds = event["train_seconds"] + event["val_seconds"]
        self._to.write(
            f"{event['epoch'] + 1:>5}{values}  {event['samples_per_second']:>11,.0f}  {seconds:>8.2f}\n"
        )
        self._to.flush()


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "nan"
    if key.endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:.{4 if abs(value) < _LARGE else 2}f}"

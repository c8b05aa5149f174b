"""How far a long work is, as one line on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

_EVERY = 30.0
"""Seconds between lines where they stay, as in a log."""


class ProgressLine:
    """A line that is written over on a terminal, and now and then a line anywhere else."""

    def __init__(self) -> None:
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._width = 0
        self._told: float | None = None

    def __enter__(self) -> Self:
        """Begin with nothing said."""
        return self

    def say(self, text: str) -> None:
        """Show a text in the place of the last one."""
        if self._terminal:
            self._write(f"\r{text:<{self._width}}")
            self._width = len(text)
        elif sys.stderr is not None and (self._told is None or time.monotonic() - self._told >= _EVERY):
            self._told = time.monotonic()
            self._write(f"{text}\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave an empty line for what follows."""
        if self._width:
            self._write(f"\r{'':<{self._width}}\r")

    def _write(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):  # the terminal is gone, and the work goes on
            self._terminal, self._width = False, 0

"""Where a training stands while it runs: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from .console import can_draw_line, clear_line, draw_line, line_width, print_messages, transcribe
from .run_progress import Pace, RunShape, Standing, bar_line, progress_line, start_text

EVERY_VARIABLE = "LOCKSTEP_PROGRESS_SECONDS"
"""Between two lines where there is no terminal, 30 by default; 0: none."""
_EVERY_SECONDS = 30.0
_SOON_SECONDS = 5.0  # what starts faster needs no line
_REDRAW_SECONDS = 0.25
_LINES, _PLAIN = "━─", "#-"


class ProgressView:
    """A view of a training between the lines that stay: from reading the data to the last step.

    Args:
        processes: of the run, on all nodes.
        clock: seconds.
    """

    def __init__(self, processes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._processes = processes
        self._clock = clock
        self._shape: RunShape | None = None
        self._standing, self._pace = Standing(), Pace()
        self._draws = can_draw_line()
        self._every = _seconds_between_lines()
        self._text = ""
        self._since = self._said = self._drawn = clock()
        self._waited = False
        self._measured = False  # by the ranks themselves
        self._beside = ""
        """What happens at the same time."""

    def begin(self, shape: RunShape, first_step: int) -> None:
        """Switch to the run itself, which begins at a step."""
        self._shape = shape
        self.restart(first_step)

    def restart(self, first_step: int) -> None:
        """Begin once more, at a step: other ranks start."""
        self._standing, self._pace = Standing(first_step, first=first_step), Pace()
        self._measured = False
        self._beside = ""

    def take(self, event: dict[str, Any]) -> None:
        """Take the row of some steps."""
        self._standing.take(event)
        self._measured = self._measured or "samples_per_second" in event

    def waiting(self, text: str, far: str = "") -> None:
        """Show what is waited for before there are ranks, and how far it is; called again and again."""
        self._show_start(text, self._clock(), far)

    def show(self, step: int, phase: str, beside: str = "") -> None:
        """Show how far the ranks are, and what else is being done beside their steps; called again and again."""
        self._beside = beside
        if self._shape is None:
            return
        now, standing = self._clock(), self._standing
        standing.step, standing.phase = max(step, standing.recorded), phase
        if standing.step > standing.first:
            self._pace.see(now, standing.step)
        if text := start_text(standing, self._processes):
            self._show_start(text, now)
            return
        if self._text:
            self._first_step_is_done(now)
        standing.left = self._pace.seconds_left(now, self._shape.steps)
        if not self._measured and self._pace.rate:
            standing.samples_per_second = self._pace.rate * self._shape.batch_size
        self._tell(now, self._shape)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        clear_line()

    def _first_step_is_done(self, now: float) -> None:
        """Say so where one has waited for it."""
        self._text = ""
        if self._waited:
            self._line("first step done")
        self._since = self._said = now
        self._waited = False

    def _show_start(self, text: str, now: float, far: str = "") -> None:
        if text != self._text:
            self._text, self._since = text, now
            self._said = now - self._every + min(_SOON_SECONDS, self._every)  # the first line comes soon
        if self._every and now - self._said >= self._every:
            self._said, self._waited = now, True
            self._line(f"{text}: {far or f'{now - self._since:.0f} s'}")
        self._draw(now, f"{text} … {far}".rstrip)

    def _tell(self, now: float, shape: RunShape) -> None:
        standing = self._standing
        if self._every and now - self._said >= self._every:
            self._said = now
            self._line(progress_line(standing, shape))
        self._draw(now, lambda: bar_line(standing, shape, self._beside, line_width(), _line_marks()))

    def _line(self, text: str) -> None:
        if self._draws:
            transcribe(f"{text}\n")  # `launch logs` shows it
        else:
            print_messages([text])

    def _draw(self, now: float, text: Callable[[], str]) -> None:
        if self._draws and now - self._drawn >= _REDRAW_SECONDS:
            self._drawn = now
            draw_line(text())


def _line_marks() -> str:
    """Return the two characters of a bar that the terminal can show."""
    with suppress(LookupError, UnicodeEncodeError):
        _LINES.encode(sys.stderr.encoding or "ascii")
        return _LINES
    return _PLAIN


def _seconds_between_lines() -> float:
    try:
        return max(0.0, float(os.environ.get(EVERY_VARIABLE) or _EVERY_SECONDS))
    except ValueError:
        return _EVERY_SECONDS

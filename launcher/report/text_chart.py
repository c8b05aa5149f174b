"""A curve in a terminal: dots in a frame, which fit 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character: row, column
_EMPTY = 0x2800
_LABEL = 9  # characters of a value beside the frame
Drawn = tuple[str, list[float], list[float]]
"""A name, ascending steps and a number for each."""


def text_chart(
    title: str, lines: Sequence[Drawn], marks: Sequence[float] = (), width: int = 78
) -> Iterator[str]:
    """Lay out a chart: one line of dots, or several of letters.

    Args:
        title: of the chart.
        lines: what is drawn.
        marks: steps that are marked at the lower edge.
        width: characters in all.
    """
    if not any(len(steps) for _, steps, _ in lines):
        yield f"{title}: no number so far"
        return
    columns, rows = width - _LABEL - 2, 10
    span = _span([step for _, steps, _ in lines for step in steps])
    low, high = _span([value for *_, values in lines for value in values])
    body = _dotted(lines[0], span, (low, high), columns, rows) if len(lines) == 1 else None
    body = body or _lettered(lines, span, (low, high), columns, rows)
    known = [(_letter(place), name) for place, (name, steps, _) in enumerate(lines) if len(steps)]
    letters = [] if len(lines) == 1 else [f"{letter} {name}" for letter, name in known]
    yield f"{title}  {'  '.join(letters)}".rstrip()
    for row, text in enumerate(body):
        at = high - (high - low) * row / (rows - 1)
        label = f"{at:.4g}" if row in (0, rows // 2, rows - 1) else ""
        yield f"{label:>{_LABEL}} │{text}".rstrip()
    edge = ["─"] * columns
    for mark in marks:
        edge[_place(mark, span, columns)] = "▲"
    yield f"{'':>{_LABEL}} └{''.join(edge)}"
    first, last = f"{span[0]:,.0f}", f"step {span[1]:,.0f}"
    yield f"{'':>{_LABEL}}  {first}{last:>{max(0, columns - len(first))}}"


def _span(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2)


def _place(value: float, span: tuple[float, float], count: int) -> int:
    share = (value - span[0]) / (span[1] - span[0])
    return min(count - 1, max(0, math.floor(share * count)))


def _dotted(
    line: Drawn, span: tuple[float, float], bounds: tuple[float, float], columns: int, rows: int
) -> list[str]:
    cells = [[_EMPTY] * columns for _ in range(rows)]
    before: int | None = None
    for step, value in _joined(line[1], line[2], 4 * columns):
        x, at = _place(step, span, 2 * columns), 4 * rows - 1 - _place(value, bounds, 4 * rows)
        start = at if before is None else before + (at > before) - (at < before)
        for y in range(min(start, at), max(start, at) + 1):
            cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
        before = at
    return ["".join(" " if cell == _EMPTY else chr(cell) for cell in row) for row in cells]


def _lettered(
    lines: Sequence[Drawn], span: tuple[float, float], bounds: tuple[float, float], columns: int, rows: int
) -> list[str]:
    cells = [[" "] * columns for _ in range(rows)]
    for place, (_, steps, values) in enumerate(lines):
        for step, value in _joined(steps, values, 2 * columns):
            y = rows - 1 - _place(value, bounds, rows)
            cells[y][_place(step, span, columns)] = _letter(place)
    return ["".join(row) for row in cells]


def _joined(steps: list[float], values: list[float], count: int) -> Iterator[tuple[float, float]]:
    """Yield points, with others on the lines between those that are far apart: about ``count`` of them."""
    for place, (step, value) in enumerate(zip(steps, values, strict=True)):
        if place:
            before, was = steps[place - 1], values[place - 1]
            parts = math.ceil((step - before) / (steps[-1] - steps[0]) * count) if step > before else 1
            for part in range(1, parts):
                yield before + (step - before) * part / parts, was + (value - was) * part / parts
        yield step, value


def _letter(place: int) -> str:
    return chr(ord("a") + place % 26)

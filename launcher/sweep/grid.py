"""The grid of a sweep: ``optimizer.lr=1e-2,1e-3 train.seed=0..4`` names ten points."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from ...data.common import UsageError
from ..config import listing, parse_value, printable, shortened

MOST_POINTS = 1000
"""SLURM's own default allows an array no larger index."""
_RANGE = re.compile(r"([-+]?\d{1,18})\.\.([-+]?\d{1,18})")
_NO_RANGE = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?\.\.[-+]?[\d.]+(e[-+]?\d+)?", re.IGNORECASE)
_OPENING, _CLOSING = "[{", "]}"


@dataclass(frozen=True)
class Grid:
    """The settings that vary, and those that do not."""

    axes: dict[str, list[str]]
    """Key to its values, as they stand on a command line."""
    fixed: list[str]
    """``key=value`` that every point has."""

    def __len__(self) -> int:
        return prod(map(len, self.axes.values()))

    def points(self) -> Iterator[dict[str, str]]:
        """Yield the varied values of each point; the last key varies fastest."""
        return (dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values()))

    def overrides(self) -> Iterator[list[str]]:
        """Yield each point's overrides of the config."""
        return ([*self.fixed, *(f"{key}={value}" for key, value in point.items())] for point in self.points())


def parse_grid(settings: Sequence[str]) -> Grid:
    """Parse overrides into a grid; those with a single value are the same for every point.

    Args:
        settings: ``key=value``, ``key=value,value`` or ``key=first..last`` (whole numbers, both included). Commas
            within brackets or quotes do not divide.

    Raises:
        UsageError: a list makes no sense, or nothing varies; one line for every mistake.
    """
    grid, problems = Grid({}, []), []
    for text in settings:
        key, _, raw = (part.strip() for part in text.partition("="))
        values, found = _values(raw)
        problems += [f"{printable(shortened(text))}: {problem}" for problem in found]
        if key in grid.axes or (len(values) > 1 and any(_key(other) == key for other in grid.fixed)):
            problems.append(f"{printable(shortened(text))}: {printable(key)} is set twice")
        elif len(values) > 1:
            grid.axes[key] = values
        else:
            grid.fixed.append(f"{key}={values[0]}" if "=" in text and values else text)
    if not problems and len(grid) > MOST_POINTS:
        problems.append(f"{len(grid):,} points are more than a sweep can have, {MOST_POINTS:,}")
    if problems:
        raise UsageError(listing(problems), "a comma that is part of a value stands in quotes or brackets")
    if not grid.axes:
        raise UsageError(
            "nothing varies in this sweep",
            "give a setting several values: optimizer.lr=1e-2,1e-3 train.seed=0..4",
        )
    return grid


def _key(setting: str) -> str:
    return setting.partition("=")[0].strip()


def _values(raw: str) -> tuple[list[str], list[str]]:
    """Parse the values that a text lists; return them and what is wrong with the text."""
    items = _split(raw)
    values: list[str] = []
    problems: list[str] = []
    for item in items:
        if (match := _RANGE.fullmatch(item)) is not None:
            first, last = int(match[1]), int(match[2])
            if first > last:
                problems.append(f"{item} is empty: a range counts up")
            elif last - first >= MOST_POINTS:
                problems.append(f"{item} has more than {MOST_POINTS:,} values")
            else:
                values += map(str, range(first, last + 1))
        elif _NO_RANGE.fullmatch(item):
            problems.append(f"{item}: a range is of whole numbers; list the values instead")
        elif not item and len(items) > 1:
            problems.append("a value is missing beside a comma")
        else:
            values.append(item)
    return values, [*problems, *_repeated(values)]


def _repeated(values: list[str]) -> list[str]:
    """Find values that are equal: ``1e-2,0.01`` would train the same twice."""
    seen: list[object] = []
    for value in values:
        meant = repr(parse_value(value)[0])
        if meant in seen:
            return [f"{printable(shortened(value))} is listed twice"]
        seen.append(meant)
    return []


def _split(text: str) -> list[str]:
    """Split a text at the commas outside brackets and quotes."""
    parts, depth, quote, before = [""], 0, "", ","
    escaped = False
    for character in text:
        if not quote and depth == 0 and character == ",":
            parts.append("")
            before = ","
            continue
        if quote:
            quote = "" if character == quote and not escaped else quote
            escaped = character == "\\" and quote == '"' and not escaped
        elif character in "\"'" and before in ",:" + _OPENING:
            quote = character
        else:
            depth = max(0, depth + (character in _OPENING) - (character in _CLOSING))
        before = before if character.isspace() else character
        parts[-1] += character
    return [part.strip() for part in parts]

"""A config that is being assembled from a file and the command line, and everything that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .yaml_text import KeyPath

DEFAULT = "default"
"""Origin of what nobody has set."""


@dataclass(frozen=True, order=True)
class Origin:
    """The place that a value comes from."""

    order: tuple[int, int]
    """First the file by line, then the command line by argument."""
    where: str
    """In messages."""
    short: str
    """In the resolved config."""
    path: tuple[str, ...] = ()
    """What the command line set; nothing for a file."""


@dataclass(frozen=True)
class Override:
    """A ``key=value`` of the command line."""

    path: tuple[str, ...]
    value: Any
    origin: Origin


@dataclass
class PartialConfig:
    """A config that is being assembled, and everything that is wrong with it."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)
    problems: list[tuple[Origin, str]] = field(default_factory=list)
    judged: set[KeyPath] = field(default_factory=set)
    """Paths that need no second complaint."""
    notes: list[str] = field(default_factory=list)


def complain(draft: PartialConfig, path: KeyPath, message: str) -> None:
    """Add a problem, unless there is one about the value or its section already."""
    if any(path[:depth] in draft.judged for depth in range(1, len(path) + 1)):
        return
    draft.judged.add(path)
    draft.problems.append((place_of(draft, path), message))


def place_of(draft: PartialConfig, path: KeyPath) -> Origin:
    """Find the origin of a value, else of its section."""
    around = (path[:depth] for depth in range(len(path), -1, -1))
    return next(draft.origins[known] for known in around if known in draft.origins)


def short_origin(draft: PartialConfig, path: KeyPath) -> str:
    """Return the origin of a value as the resolved config shows it."""
    origin = draft.origins.get(path)
    return origin.short if origin else DEFAULT


def forget(draft: PartialConfig, path: KeyPath) -> None:
    """Drop the origins of a value and of what is in it."""
    draft.origins = {known: origin for known, origin in draft.origins.items() if known[: len(path)] != path}

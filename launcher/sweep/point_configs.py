"""The configs of a sweep's points: each is resolved before anything starts, and again when it does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...data.common import UsageError
from ..config import ResolvedConfig, listing, resolve
from .grid import Grid
from .sweep_folder import Sweep


def resolve_all(config: str | None, grid: Grid) -> list[ResolvedConfig]:
    """Every point's config.

    Raises:
        UsageError: some are wrong; a mistake that several share is told once.
    """
    found, problems, hint = [], [], ""
    for overrides in grid.overrides():
        try:
            found.append(resolve(config, overrides))
        except UsageError as error:
            problems += error.message.split("\n")
            hint = hint or error.hint
    if problems:
        raise UsageError(listing(problems), hint)
    return found


def resolve_point(sweep: Sweep, index: int) -> ResolvedConfig:
    """A point's config, from the copy that the sweep has kept."""
    return _from_copy(sweep, sweep.overrides(index))


def _from_copy(sweep: Sweep, overrides: Sequence[str]) -> ResolvedConfig:
    resolved = resolve(str(sweep.folder / sweep.config), overrides)
    return replace(resolved, name=sweep.name, base=sweep.base)

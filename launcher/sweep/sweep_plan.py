"""Which sweep a command means, one to resume or a new one, and the configs of its points.

Each point's config is resolved before anything starts, and again when the point does.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from ...data.common import UsageError, write_text
from ..config import ResolvedConfig, listing, resolve
from ..runs import create_run, is_sweep, runs_root
from .grid import Grid, parse_grid
from .request import SweepRequest
from .sweep_folder import Sweep, read_sweep, write_sweep

_SUFFIXES = (".yaml", ".yml")


def find_sweep(request: SweepRequest) -> Sweep | None:
    """Find the sweep to resume: named alone, or by the command that started it; None where a new one is meant.

    Raises:
        UsageError: the command asks for other points than the sweep of that name has.
    """
    if request.name is None and not request.settings and request.config is not None:
        for folder in (runs_root() / request.config, Path(request.config).resolve()):
            if is_sweep(folder):
                return read_sweep(folder)
    if request.name is None or not is_sweep(runs_root() / request.name):
        return None
    found = read_sweep(runs_root() / request.name)
    grid = parse_grid(request.settings)
    source = resolve_all(request.config, grid)[0].source
    if (grid.axes, grid.fixed) != (found.axes, found.fixed) or source.read_bytes() != (
        found.folder / found.config
    ).read_bytes():
        raise UsageError(
            f"{request.name} was started with another config or other points",
            f"resume it as it is with `launch sweep {request.name}`, or use another --name",
        )
    return found


def plan_sweep(request: SweepRequest) -> Sweep:
    """Check a new sweep, and return it without creating its folder."""
    grid = parse_grid(request.settings)
    first = resolve_all(request.config, grid)[0]
    return _describe(runs_root() / (request.name or first.name), first, grid, request)


def create_sweep(request: SweepRequest) -> Sweep:
    """Create a new sweep with its folder.

    Raises:
        UsageError: a config is wrong, or a name is taken, that of a point's run included.
    """
    grid = parse_grid(request.settings)
    first = resolve_all(request.config, grid)[0]
    folder = create_run(request.name, first.name)
    try:
        new = _describe(folder, first, grid, request)
        _refuse_taken(new)
        write_text(folder / new.config, first.source.read_text(encoding="utf-8-sig"))
        write_sweep(new)
    except BaseException:
        shutil.rmtree(folder)
        raise
    return new


def _refuse_taken(new: Sweep) -> None:
    for index in range(len(new.points)):
        if new.run(index).exists():
            raise UsageError(f"{new.run(index)}: a point's run would have this name", "use another --name")


def _describe(folder: Path, first: ResolvedConfig, grid: Grid, request: SweepRequest) -> Sweep:
    config = first.source.name if first.source.suffix in _SUFFIXES else "config.yaml"
    launch = {"gpus": request.gpus, "cpu": request.cpu, "supervision": asdict(request.supervision)}
    points = list(grid.points())
    return Sweep(
        folder, first.name, config, first.base, grid.fixed, grid.axes, points, launch, request.submit
    )


def resolve_all(config: str | None, grid: Grid) -> list[ResolvedConfig]:
    """Resolve the config of every point.

    Raises:
        UsageError: some are wrong; a mistake that several share is reported once.
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
    """Resolve the config of one point from the copy that the sweep has kept."""
    return _from_copy(sweep, sweep.overrides(index))


def _from_copy(sweep: Sweep, overrides: Sequence[str]) -> ResolvedConfig:
    resolved = resolve(str(sweep.folder / sweep.config), overrides)
    return replace(resolved, name=sweep.name, base=sweep.base)

"""What a sweep is asked to do, and which one that is: one that goes on, or a new one with its folder."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...data.common import UsageError, write_text
from ..config import ResolvedConfig
from ..console import put, put_json
from ..options import SupervisionOptions
from ..runs import create_run, is_sweep, runs_root
from .grid import Grid, parse_grid
from .point_configs import resolve_all
from .results import Results, lines, to_json, write_results
from .sweep_folder import Sweep, read_sweep, write_sweep

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class SweepRequest:
    """What the command line asks for."""

    config: str | None
    settings: list[str]
    gpus: str | None = None
    cpu: int | None = None
    """As ``launch train`` takes them, or as ``launch submit`` does."""
    name: str | None = None
    supervision: SupervisionOptions = field(default_factory=SupervisionOptions)
    retry: bool = False
    sort: str | None = None
    dry_run: bool = False
    json: bool = False
    submit: bool = False
    slurm: dict[str, Any] = field(default_factory=dict)
    """Keys of the ``slurm:`` section on the command line; None where nothing was said."""
    cluster: str | None = None
    at_once: int | None = None
    """Of a submission: how many points may run together."""


def existing(request: SweepRequest) -> Sweep | None:
    """The sweep that goes on: named alone, or by the command that started it.

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
            f"go on with it as it is with `launch sweep {request.name}`, or use another --name",
        )
    return found


def planned(request: SweepRequest) -> Sweep:
    """A sweep that is checked and not there yet."""
    grid = parse_grid(request.settings)
    first = resolve_all(request.config, grid)[0]
    return _describe(runs_root() / (request.name or first.name), first, grid, request)


def create(request: SweepRequest) -> Sweep:
    """A new sweep's folder.

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


def tell(results: Results, *, as_json: bool) -> None:
    """The table, as ``results.csv`` too."""
    write_results(results)
    if as_json:
        put_json({"schema_version": 1, **to_json(results)})
    else:
        put(lines(results))

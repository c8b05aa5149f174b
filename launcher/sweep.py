"""``launch sweep``: a grid of trainings, each a run of its own, and a table of what came out."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..data.errors import UsageError
from .config import ResolvedConfig
from .console import put, put_json, say
from .files import write_text
from .grid import Grid, parse_grid
from .runs import create_run, is_sweep, runs_root
from .supervision import Supervision
from .sweep_config import resolve_all
from .sweep_file import Sweep, points_of, read_sweep, write_sweep
from .sweep_run import is_due, run_points
from .sweep_table import Results, aligned, exit_code, lines, results_of, to_json, write_results

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class SweepRequest:
    """What the command line asks for."""

    config: str | None
    settings: list[str]
    gpus: str | None = None
    cpu: int | None = None
    name: str | None = None
    supervision: Supervision = field(default_factory=Supervision)
    retry: bool = False
    sort: str | None = None
    dry_run: bool = False
    json: bool = False


def sweep(request: SweepRequest) -> int:
    """Train every point that is due, one after the other; the exit status.

    Raises:
        UsageError: the grid or a point's config is wrong, or the name belongs to something else.
    """
    found = existing(request)
    if request.dry_run:
        return _show_plan(found or planned(request), request)
    here = found or create(request)
    if here.slurm:
        raise UsageError(f"{here.folder.name} runs as a SLURM job array", "see it with `launch status`")
    interrupted = run_points(
        here, _launch(here, request), lambda: write_results(results_of(here)), retry=request.retry
    )
    results = results_of(here, request.sort)
    tell(results, as_json=request.json)
    return exit_code(results.points) if interrupted is None else interrupted


def tell(results: Results, *, as_json: bool) -> None:
    """The table, as ``results.csv`` too."""
    write_results(results)
    if as_json:
        put_json({"schema_version": 1, **to_json(results)})
    else:
        put(lines(results))


def _launch(sweep: Sweep, request: SweepRequest) -> dict[str, Any]:
    """A sweep goes on as it was started, but on other processes where that is said."""
    if request.gpus is None and request.cpu is None:
        return sweep.launch
    return sweep.launch | {"gpus": request.gpus, "cpu": request.cpu}


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


def create(request: SweepRequest, *, slurm: bool = False) -> Sweep:
    """A new sweep's folder.

    Raises:
        UsageError: a config is wrong, or a name is taken, that of a point's run included.
    """
    grid = parse_grid(request.settings)
    first = resolve_all(request.config, grid)[0]
    folder = create_run(request.name, first.name)
    try:
        new = _describe(folder, first, grid, request, slurm=slurm)
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


def _describe(
    folder: Path, first: ResolvedConfig, grid: Grid, request: SweepRequest, *, slurm: bool = False
) -> Sweep:
    config = first.source.name if first.source.suffix in _SUFFIXES else "config.yaml"
    launch = {"gpus": request.gpus, "cpu": request.cpu, "supervision": asdict(request.supervision)}
    points = list(grid.points())
    return Sweep(folder, first.name, config, first.base, grid.fixed, grid.axes, points, launch, slurm)


def _show_plan(sweep: Sweep, request: SweepRequest) -> int:
    """Which points there are, and which of them would be launched."""
    there = is_sweep(sweep.folder)
    points = points_of(sweep) if there else []
    due = [is_due(point, retry=request.retry) for point in points] or [True] * len(sweep.points)
    if request.json:
        rows = [
            {
                "index": index,
                "run": sweep.run(index).name,
                "overrides": sweep.overrides(index),
                "due": due[index],
            }
            for index in range(len(sweep.points))
        ]
        put_json({"schema_version": 1, "status": "planned", "sweep": sweep.folder.name, "points": rows})
        return 0
    head = ["point", *sweep.labels.values(), "now"]
    states = [point.status for point in points] or ["new"] * len(sweep.points)
    rows_shown = [
        [sweep.run(index).name, *values.values(), states[index]] for index, values in enumerate(sweep.points)
    ]
    put(aligned([head, *rows_shown], left={0, len(head) - 1}))
    say([f"nothing was started; {sum(due)} of {len(due)} points would be"])
    return 0

"""``launch sweep`` on this machine: a grid of trainings, each a run of its own, and a table of what came out."""

from __future__ import annotations

from typing import Any

from ..console import print_json, print_messages, print_results
from ..runs import is_sweep
from .request import SweepRequest
from .results import align_columns, exit_code, report_results, results_of, write_results
from .run_points import is_due, run_points
from .sweep_folder import Sweep, points_of
from .sweep_plan import create_sweep, plan_sweep


def run_local_sweep(found: Sweep | None, request: SweepRequest) -> int:
    """Train every point that is due on this machine, one after the other; the exit status.

    Args:
        found: the sweep to resume; None for a new one.
        request: what was asked for.

    Raises:
        UsageError: the grid or a point's config is wrong, or the name belongs to something else.
    """
    if request.dry_run:
        return _show_plan(found or plan_sweep(request), request)
    here = found or create_sweep(request)
    interrupted = run_points(
        here, _launch(here, request), lambda: write_results(results_of(here)), retry=request.retry
    )
    results = results_of(here, request.sort)
    report_results(results, as_json=request.json)
    return exit_code(results.points) if interrupted is None else interrupted


def _launch(sweep: Sweep, request: SweepRequest) -> dict[str, Any]:
    """Return how points are launched: as the sweep was started, but for processes that are given anew."""
    if request.gpus is None and request.cpu is None:
        return sweep.launch
    return sweep.launch | {"gpus": request.gpus, "cpu": request.cpu}


def _show_plan(sweep: Sweep, request: SweepRequest) -> int:
    """Print the points, and which of them would be launched."""
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
        print_json({"schema_version": 1, "status": "planned", "sweep": sweep.folder.name, "points": rows})
        return 0
    head = ["point", *sweep.labels.values(), "now"]
    states = [point.status for point in points] or ["new"] * len(sweep.points)
    rows_shown = [
        [sweep.run(index).name, *values.values(), states[index]] for index, values in enumerate(sweep.points)
    ]
    print_results(align_columns([head, *rows_shown], left={0, len(head) - 1}))
    print_messages([f"nothing was started; {sum(due)} of {len(due)} points would be"])
    return 0

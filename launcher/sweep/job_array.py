"""``launch sweep … --submit``: the points of a sweep as one SLURM job array.

Each point is laid out as a run of its own, as ``launch submit`` would, so that it lives as every submitted run does:
after its time limit, a preemption or a failure that point alone continues. Only the first submission, and that
of points which are tried again, is of several at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from ...data.common import MachineError, UsageError
from ..config import ResolvedConfig, to_yaml
from ..console import print_json, print_messages, print_results
from ..runs import create_run, statuses
from ..slurm import PendingSubmission, note_job, read_job
from ..submit import (
    PROCESS_KEYS,
    SUPERVISION_KEYS,
    JobPlan,
    NewFolders,
    Submission,
    SubmissionForecast,
    check_setup,
    compose,
    describe_start,
    discard_unless_sent,
    dry_run_listing,
    flag,
    forecast_submission,
    hold_submit_lock,
    plan_job,
    sbatch_options,
    send,
    tasks_of,
)
from .grid import parse_grid
from .request import SweepRequest
from .results import align_columns, exit_code, report_results, results_of
from .run_points import is_due
from .sweep_folder import Sweep, overall, points_of, read_sweep, write_sweep
from .sweep_plan import create_sweep, plan_sweep, resolve_all, resolve_point


@dataclass(frozen=True)
class SweepArray:
    """The points that are to be submitted."""

    sweep: Sweep
    plan: JobPlan
    points: dict[int, Submission]
    options: list[str]
    """Of sbatch, for all of them."""

    @property
    def arguments(self) -> list[str]:
        """Arguments of sbatch: the options, the script, and the script's two arguments."""
        return [*self.options, *self.first.job.batch_script_command(self.sweep.folder)]

    @property
    def first(self) -> Submission:
        """The first point, which stands for all in what they have in common."""
        return next(iter(self.points.values()))

    @property
    def pending(self) -> list[PendingSubmission]:
        """The entries for the points' job logs, which are written before and after sending."""
        sweep = self.sweep.folder
        return [
            PendingSubmission(made.folder, sweep.name, sweep, index, {"how": made.job.how})
            for index, made in self.points.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``--dry-run --json``."""
        files: dict[str, str] = {}
        for submission in self.points.values():
            files |= submission.files
        common = self.first.to_json()
        return {
            "sbatch": ["sbatch", *self.arguments],
            "files": files,
            "environment": common["environment"],
            "origins": common["origins"],
            "points": [
                {"index": index, "run": made.folder.name, "overrides": self.sweep.overrides(index)}
                for index, made in self.points.items()
            ],
        }


def is_submitted_sweep(found: Sweep | None, request: SweepRequest) -> bool:
    """Check whether SLURM has the sweep, or should get it.

    Raises:
        UsageError: a sweep of this machine is to be submitted, or an option makes no sense without SLURM.
    """
    if found is not None and request.submit and not found.slurm:
        raise UsageError(
            f"{found.folder.name} is trained on this machine", "submit another sweep, under another --name"
        )
    if request.submit or (found is not None and found.slurm):
        return True
    said = [flag(key) for key in _given(request.slurm) if key not in SUPERVISION_KEYS]
    said += ["at-once"] * bool(request.at_once) + ["cluster"] * bool(request.cluster)
    if said:
        raise UsageError(f"--{said[0]} is an option of a SLURM job", "add --submit")
    return False


def submit_sweep(found: Sweep | None, request: SweepRequest) -> int:
    """Submit the points that are due, or print the table of a sweep that was submitted; the exit status.

    Args:
        found: the sweep to resume; None for a new one.
        request: what was asked for.

    Raises:
        UsageError: the grid, a config or an option is wrong, or SLURM refuses the array.
        MachineError: SLURM does not answer.
    """
    if found is not None and not (request.submit or request.retry or request.dry_run):
        return _print_table(found, request)
    return _submit(found, request)


def _print_table(found: Sweep, request: SweepRequest) -> int:
    """Print the table as it is now; return 0 while SLURM still has points of it."""
    known, problem = statuses(map(found.run, range(len(found.points))), accounts=True)
    results = results_of(found, request.sort, known)
    report_results(results, as_json=request.json)
    if problem:
        print_messages([f"SLURM could not be asked: {problem}; the points stand here as their folders say"])
    is_under_way = overall(results.points) in ("running", "stopping", "queued")
    return 0 if is_under_way else exit_code(results.points)


def _submit(found: Sweep | None, request: SweepRequest) -> int:
    """Send the points that are due, or show what would be sent."""
    with _sweep(found, request) as here, discard_unless_sent() as new_folders:
        before = here if found is not None else None
        is_only_planned = found is None and request.dry_run
        new_folders.folders += [here.folder] if found is None and not is_only_planned else []
        due = range(len(here.points)) if is_only_planned else _due(here, retry=request.retry)
        if not due:
            new_folders.is_kept = True
            print_messages([f"nothing was sent: no point of {here.folder.name} is due"])
            return _print_table(here, request)
        configs = _configs(before, request, due)
        launch = _launch(before, request)
        plan = plan_job(configs[due[0]], launch["slurm"], launch["cluster"], launch["at_once"])
        array = _compose(replace(here, slurm=True, launch=launch), configs, plan)
        forecast = forecast_submission(array.arguments, array.first.job.env, plan.need)
        plan.notes.extend(forecast.notes)
        if request.dry_run:
            _show(array, forecast, as_json=request.json)
            return 0
        _fill(array, new_folders)
        job = send(array.arguments, array.first.job.env, new_folders, array.pending, plan.need)
        note_job(array.sweep.folder, "submitted", job, points=list(array.points))
    _tell(array, job, forecast.start, as_json=request.json)
    return 0


def _due(found: Sweep, *, retry: bool) -> list[int]:
    known, problem = statuses(map(found.run, range(len(found.points))), accounts=True)
    if problem:
        raise MachineError(
            f"{found.folder.name}: SLURM could not be asked which points it still has: {problem}",
            f"try again; `launch status {found.folder.name}` says what their folders know",
        )
    return [point.index for point in points_of(found, known) if is_due(point, retry=retry)]


def _configs(found: Sweep | None, request: SweepRequest, due: Sequence[int]) -> dict[int, ResolvedConfig]:
    """Resolve the config of each point; a new sweep has no copy of the config yet."""
    if varied := [key for key in (found or plan_sweep(request)).axes if key.partition(".")[0] == "slurm"]:
        raise UsageError(
            f"{varied[0]} varies, and the points of one array are alike in what they ask of SLURM",
            "submit a sweep for each value",
        )
    if found is not None:
        return {index: resolve_point(found, index) for index in due}
    every = resolve_all(request.config, parse_grid(request.settings))
    return {index: every[index] for index in due}


def _launch(found: Sweep | None, request: SweepRequest) -> dict[str, Any]:
    """Return what is asked of SLURM; a sweep that is resumed keeps every option that is not given anew."""
    before = found.launch if found is not None else {}
    said = _given({**request.slurm, "gpus": request.gpus, "cpu": request.cpu})
    kept = dict(before.get("slurm", {}))
    if any(key in said for key in PROCESS_KEYS):
        kept = {key: value for key, value in kept.items() if key not in PROCESS_KEYS}
    return {
        "slurm": kept | said,
        "cluster": request.cluster or before.get("cluster"),
        "at_once": request.at_once or before.get("at_once"),
    }


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value not in (None, [], {})}


@contextmanager
def _sweep(found: Sweep | None, request: SweepRequest) -> Iterator[Sweep]:
    """Find or create the sweep, and keep others from submitting it until this submission is noted.

    Which of its points are due is known only then: another command may just have sent them, even those of a new sweep.
    """
    if request.dry_run:
        yield found or plan_sweep(request)
        return
    folder = (found or create_sweep(request)).folder
    with hold_submit_lock(folder):
        yield read_sweep(folder)


def _compose(sweep: Sweep, configs: Mapping[int, ResolvedConfig], plan: JobPlan) -> SweepArray:
    points = {index: _point(sweep, index, resolved, plan) for index, resolved in configs.items()}
    tasks = tasks_of(list(points), sweep.launch["at_once"])
    slurm = plan.options.slurm
    options = sbatch_options(sweep.folder, slurm, cores=plan.cores, requeue=plan.requeue, tasks=tasks)
    check_setup(next(iter(points.values())).setup)
    return SweepArray(sweep, plan, points, options)


def _point(sweep: Sweep, index: int, resolved: ResolvedConfig, plan: JobPlan) -> Submission:
    """Compose a point as ``launch submit`` would; one that is tried again stays the same run."""
    made = compose(
        sweep.run(index),
        plan.options,
        base=sweep.base,
        config=to_yaml(resolved),
        program=[],
        cores=plan.cores,
        how=plan.how,
        requeue=plan.requeue,
    )
    before = read_job(sweep.run(index))
    if before is None:
        return made
    return replace(made, job=replace(made.job, wandb_id=before.wandb_id, folder=before.folder))


def _fill(array: SweepArray, new_folders: NewFolders) -> None:
    for submission in array.points.values():
        if not submission.folder.exists():
            new_folders.folders.append(create_run(submission.folder.name, ""))
        submission.fill()
    write_sweep(array.sweep)


def _show(array: SweepArray, forecast: SubmissionForecast, *, as_json: bool) -> None:
    document = array.to_json()
    if as_json:
        print_json({"schema_version": 1, "status": "planned", "expected_start": forecast.start, **document})
        return
    sweep, first = array.sweep, array.first
    print_results(["# The points; the folder of each is filled as that of the first, below"])
    rows = [[made.folder.name, *sweep.points[index].values()] for index, made in array.points.items()]
    print_results([*align_columns([["point", *sweep.labels.values()], *rows], left={0}), ""])
    print_results(dry_run_listing({**document, "files": first.files}, first.values))
    print_messages(f"note: {note}" for note in array.plan.notes)
    print_messages([forecast.verdict])


def _tell(array: SweepArray, job: int, expected: str, *, as_json: bool) -> None:
    name, count = array.sweep.folder.name, len(array.points)
    if as_json:
        facts = {"sweep": name, "sweep_dir": str(array.sweep.folder), "status": "queued", "job": str(job)}
        points = array.to_json()["points"]
        print_json({"schema_version": 1, **facts, "expected_start": expected, "points": points})
    print_messages(f"note: {note}" for note in array.plan.notes)
    at_once = array.sweep.launch["at_once"]
    points_said = f"{count} point{'s' * (count > 1)}" + (
        f", {at_once} at once" if at_once and at_once < count else ""
    )
    print_messages([f"{name}: job {job} is queued, an array of {points_said}{describe_start(expected)}"])
    some = array.first.folder.name
    print_messages([f"see `launch status {name}`, `launch logs {some} -f`; end it with `launch stop {name}`"])

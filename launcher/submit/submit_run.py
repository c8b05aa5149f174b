"""``launch submit``: from a request to a job in SLURM's queue, or to an error that says why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...data.common import UsageError
from ..config import ResolvedConfig, printable, to_yaml
from ..console import print_json, print_messages, print_results
from ..runs import LOCK, create_run, hold_run_lock, program_stem, safe_stem
from ..slurm import find_secret_option, looks_like_token
from .dry_run import dry_run_listing
from .job_plan import JobPlan, check_setup, plan_job
from .scheduler import SubmissionForecast, describe_start, discard_unless_sent, forecast_submission, send
from .submission import Submission, compose


@dataclass(frozen=True)
class SubmitRequest:
    """The request of ``launch submit``."""

    resolved: ResolvedConfig | None
    """Of a training; None for a script."""
    program: list[str] = field(default_factory=list)
    """``SCRIPT ARGS…`` or ``-m MODULE ARGS…``; empty for a training."""
    slurm: dict[str, Any] = field(default_factory=dict)
    """Keys of the ``slurm:`` section; None where nothing was said."""
    name: str | None = None
    cluster: str | None = None
    dry_run: bool = False
    json: bool = False


def submit(request: SubmitRequest) -> int:
    """Send a job, or with ``--dry-run`` show what would be sent; the exit status.

    Raises:
        UsageError: something that was asked for is wrong, or SLURM refuses the job.
        MachineError: SLURM does not answer.
    """
    _check_program(request.program)
    plan = plan_job(request.resolved, request.slurm, request.cluster)
    notes = [*plan.notes, *_warn_of_secrets(request.program)]
    with discard_unless_sent() as new_folders:
        stem = safe_stem(request.resolved.name) if request.resolved else program_stem(request.program)
        new_folders.folders.append(create_run(request.name, stem))
        with _prepared(new_folders.folders[0]):
            submission = _compose(new_folders.folders[0], request, plan)
            forecast = forecast_submission(submission.arguments, submission.job.env, plan.need)
            notes += forecast.notes
            if request.dry_run:
                _show(submission, request, forecast, notes)
                return 0
            submission.fill()
        job = send(submission.arguments, submission.job.env, new_folders, [submission.pending()], plan.need)
    _tell(submission, request, job, forecast, notes)
    return 0


@contextmanager
def _prepared(folder: Path) -> Iterator[None]:
    """Lock the folder until a run is in it; a process that is killed before leaves the name free."""
    with hold_run_lock(folder):
        yield
        (folder / LOCK).unlink()


def _check_program(program: list[str]) -> None:
    """Refuse what would otherwise be found out only after hours in a queue, or never.

    Raises:
        UsageError: there is no such script, no module was named, or an argument is a token.
    """
    if program == ["-m"]:
        raise UsageError("-m: a module's name is missing", "launch submit [OPTIONS] -m MODULE [ARGS]")
    if program and not program[0].startswith("-m") and not Path(program[0]).exists():
        about = f"{printable(program[0])}: there is no such script"
        raise UsageError(about, "launch submit [OPTIONS] SCRIPT [ARGS]")
    if any(map(looks_like_token, program[1:])):
        raise UsageError(
            "an argument of the program is a token, which the run folder would keep",
            "write it into a file of yours, and let the program read that",
        )


def _warn_of_secrets(program: list[str]) -> list[str]:
    """Warn of arguments that look like secrets: the run folder keeps them, and every user of the node sees them."""
    names = dict.fromkeys(name for argument in program[1:] if (name := find_secret_option(argument)))
    return [
        f"{name}: a secret does not belong on a command line; let the program read a file" for name in names
    ]


def _compose(folder: Path, request: SubmitRequest, plan: JobPlan) -> Submission:
    submission = compose(
        folder,
        plan.options,
        base=request.resolved.base if request.resolved else None,
        config=to_yaml(request.resolved) if request.resolved else "",
        program=request.program,
        cores=plan.cores,
        how=plan.how,
        requeue=plan.requeue,
    )
    check_setup(submission.setup)
    return submission


def _show(
    submission: Submission, request: SubmitRequest, forecast: SubmissionForecast, notes: list[str]
) -> None:
    if request.json:
        facts = {"status": "planned", "expected_start": forecast.start}
        print_json({"schema_version": 1, **facts, **submission.to_json()})
        return
    print_results(dry_run_listing(submission.to_json(), submission.values))
    print_messages(f"note: {note}" for note in notes)
    print_messages([forecast.verdict])


def _tell(
    submission: Submission, request: SubmitRequest, job: int, forecast: SubmissionForecast, notes: list[str]
) -> None:
    run = submission.folder.name
    if request.json:
        facts = {"run": run, "run_dir": str(submission.folder), "status": "queued", "job": str(job)}
        print_json({"schema_version": 1, **facts, "expected_start": forecast.start})
    print_messages(f"note: {note}" for note in notes)
    print_messages([f"{run}: job {job} is queued{describe_start(forecast.start)}"])
    print_messages([f"see `launch status {run}`, `launch logs {run} -f`; end it with `launch stop {run}`"])

"""Resuming a submitted run: in SLURM, or on this machine if asked to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ...data.common import UsageError
from ..console import print_json, print_messages
from ..runs import read_outcome, refuse_live_jobs
from ..slurm import JobSpec, NodeRequirements, PendingSubmission
from .scheduler import NewFolders, describe_start, forecast_submission, send
from .submit_lock import hold_submit_lock


def resubmit_run(folder: Path, job: JobSpec, said: Sequence[str], *, as_json: bool) -> int:
    """Send a run that is over once more, with the very options it was submitted with; the exit status.

    Args:
        folder: of the run.
        job: as it was submitted.
        said: settings and options of the command line, none of which the job would heed.
        as_json: answer as ``launch submit --json`` does.

    Raises:
        UsageError: it is done, a job of it waits or runs, something was said that cannot be heeded, or SLURM refuses.
        MachineError: SLURM does not answer.
    """
    name = folder.name
    if said:
        raise UsageError(
            f"{name} is a SLURM run, which resumes as it was submitted: {said[0]} cannot be changed",
            f"`launch resume {name}` sends it as it is; with --local it resumes on this machine, with {said[0]}",
        )
    arguments = [*job.sbatch, *job.batch_script_command(folder)]
    pending = PendingSubmission(folder, name, folder, facts={"how": job.how, "why": "launch resume"})
    with hold_submit_lock(folder):
        _refuse_done(folder, job)
        refuse_live_jobs(folder, "or let it continue by itself")
        expected = _expected(arguments, job)
        number = send(arguments, job.env, NewFolders(), [pending])
    if as_json:
        facts = {"run": name, "run_dir": str(folder), "status": "queued", "job": str(number)}
        print_json({"schema_version": 1, **facts, "expected_start": expected})
    print_messages(
        [
            f"{name}: job {number} is queued, with the options of its first submission{describe_start(expected)}"
        ]
    )
    return 0


def _expected(arguments: Sequence[str], job: JobSpec) -> str:
    """Return when SLURM expects to start it; empty if it refuses, which may only mean that the job has to wait."""
    with suppress(UsageError):
        return forecast_submission(arguments, job.env, NodeRequirements()).start
    return ""


def refuse_never_started(folder: Path, job: JobSpec) -> None:
    """Refuse to resume on this machine a run that has never started.

    Raises:
        UsageError: it has not, or is a script.
    """
    name, there = folder.name, f"`launch resume {folder.name}` sends it to SLURM"
    if job.kind == "run":
        raise UsageError(f"{name} is a script: `launch resume` cannot resume it on this machine", there)
    if not (folder / "spec.json").is_file():
        raise UsageError(f"{name} has not begun: there is nothing to resume on this machine", there)


def _refuse_done(folder: Path, job: JobSpec) -> None:
    outcome = read_outcome(folder) or {}
    if outcome.get("status") != "done":
        return
    name, steps = folder.name, outcome.get("steps")
    longer = f"train it longer, on this machine, with `launch resume {name} train.epochs=N --local`"
    raise UsageError(
        f"{name} is done" + (f": after {steps:,} steps" if isinstance(steps, int) else ""),
        "submit it anew under another --name" if job.kind == "run" else longer,
    )

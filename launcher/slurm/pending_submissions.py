"""What is sent to SLURM, and what was sent without its answer having been noted.

The submitter may be killed before it can note the job's number, or get no answer. So the request is in the job log
before sbatch runs. Where no number follows it, the job is looked for in the queue by its working folder, which no
other run has, and noted then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .job_log import note_job, read_jobs

SENDING = "sending"
_ANSWERS = ("submitted", "started", "refused")


@dataclass(frozen=True)
class PendingSubmission:
    """One run's part of what is sent."""

    run: Path
    """Its folder."""
    name: str
    """The job's."""
    workdir: Path
    """The job's working folder: the run's, or of an array the sweep's."""
    task: int | None = None
    """Of an array."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is noted with the job's number."""

    def record_sending(self) -> None:
        """Write down that sbatch is about to be asked."""
        about = {"name": self.name, "workdir": str(self.workdir), "task": self.task, "facts": self.facts}
        note_job(self.run, SENDING, "", **about)

    def record_refused(self) -> None:
        """Write down that there is no job."""
        note_job(self.run, "refused", "")

    def record_submitted(self, job: int) -> None:
        """Write down the job's number."""
        note_job(self.run, "submitted", job if self.task is None else f"{job}_{self.task}", **self.facts)


def find_unanswered(runs: Iterable[Path]) -> dict[Path, Mapping[str, Any]]:
    """Return the newest request to sbatch of each of these runs whose answer was not noted."""
    return {run: request for run in runs if (request := _find_unanswered(run)) is not None}


def job_names(pending: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """Return the names under which the jobs were sent."""
    return list(dict.fromkeys(str(request["name"]) for request in pending.values()))


def record_found_jobs(pending: Mapping[Path, Mapping[str, Any]], folders: Mapping[str, str]) -> None:
    """Note the jobs that SLURM has after all.

    Args:
        pending: what ``find_unanswered`` returned.
        folders: the working folder of each job in the queue, by its id.
    """
    for run, request in pending.items():
        if job := _newest(run, request, folders):
            with suppress(OSError):  # a reader of the run need not be able to write
                note_job(run, "submitted", job, **request["facts"], found=True)


def _find_unanswered(run: Path) -> Mapping[str, Any] | None:
    events = [event for event in read_jobs(run) if event.get("event") in (SENDING, *_ANSWERS)]
    if not events or events[-1].get("event") != SENDING:
        return None
    return events[-1] if events[-1].keys() >= {"name", "workdir", "task", "facts"} else None


def _newest(run: Path, request: Mapping[str, Any], folders: Mapping[str, str]) -> str:
    known = {str(event.get("job")) for event in read_jobs(run)}
    task = "" if request["task"] is None else str(request["task"])
    mine = [
        job
        for job, folder in folders.items()
        if folder == request["workdir"] and job not in known and job.partition("_")[2] == task
    ]
    return max(mine, key=lambda job: int(job.partition("_")[0]), default="")

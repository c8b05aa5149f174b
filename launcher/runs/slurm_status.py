"""The status of submitted runs: what SLURM says of their jobs and what their folders say; both, where they disagree.

Nothing here looks at a process: the jobs of a run look the same from every login node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data.common import LockstepError, MachineError
from ..slurm import JOB, find_unanswered, is_job, is_job_of_run, job_names, read_jobs, record_found_jobs
from .run_folder import is_run
from .run_status import Status, read_status

if TYPE_CHECKING:  # it imports pydantic, which is not needed without a SLURM run
    from ..slurm import JobAccounting, QueuedJob

_LONG_PATIENCE_SECONDS = 30.0  # to end jobs, one has to know of them
_PATIENCE_SECONDS = 5.0  # a table must not wait for a queue that does not answer
_KNOWN_JOBS = 4  # of a run: the newest ones; older ones are over
_WAITING = (
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
)
_ACTIVE = ("RUNNING", "COMPLETING", "SUSPENDED", "STAGE_OUT", "SIGNALING", "STOPPED", "RESIZING")
_FITTING = {
    "done": ("COMPLETED",),
    "stopped": ("COMPLETED", "FAILED", "TIMEOUT", "PREEMPTED", "CANCELLED"),
    "cancelled": ("COMPLETED", "FAILED", "TIMEOUT", "PREEMPTED", "CANCELLED"),
    "failed": (
        "FAILED",
        "CANCELLED",
        "TIMEOUT",
        "PREEMPTED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "BOOT_FAIL",
        "DEADLINE",
    ),
}
"""States of an ended job that agree with the run's own outcome."""


@dataclass(frozen=True)
class QueueSnapshot:
    """SLURM's answer to one query for many jobs."""

    jobs: Mapping[str, QueuedJob] = field(default_factory=dict)
    accounts: Mapping[str, JobAccounting] = field(default_factory=dict)
    """What sacct says of jobs that the queue has forgotten."""
    problem: str = ""
    """Why the queue could not be asked; empty if it could."""

    def of(self, run: Path, job: str) -> QueuedJob | None:
        """Find a run's job; None if the queue has forgotten it, or gave its number to another one."""
        found = self.jobs.get(job)
        return found if found is not None and is_job_of_run(run, job, found.workdir) else None

    def account(self, run: Path, job: str) -> str:
        """Find the state of a run's job that the queue has forgotten; empty if sacct does not say."""
        found = self.accounts.get(job)
        return found.state if found is not None and is_job_of_run(run, job, found.workdir) else ""


def is_submitted(folder: Path) -> bool:
    """Tell whether a run was submitted."""
    return (folder / JOB).is_file()


def jobs_of(folder: Path) -> list[str]:
    """List the jobs that were submitted for a run, oldest first."""
    jobs = [
        str(event["job"])
        for event in read_jobs(folder)
        if event.get("event") in ("submitted", "started") and is_job(event.get("job"))
    ]
    return list(dict.fromkeys(jobs))


def _cancelled_chained_jobs(folder: Path) -> set[str]:
    """Find jobs that waited behind another and were cancelled unused: they say nothing about the run."""
    kinds_by_job: dict[str, set[str]] = {}
    for event in read_jobs(folder):
        kind = "chained" if event.get("after") else str(event.get("event"))
        kinds_by_job.setdefault(str(event.get("job")), set()).add(kind)
    return {
        job
        for job, kinds in kinds_by_job.items()
        if {"chained", "cancelled"} <= kinds and "started" not in kinds
    }


def query_jobs(
    folders: Iterable[Path], *, accounts: bool = False, timeout: float = _PATIENCE_SECONDS
) -> QueueSnapshot:
    """Ask SLURM once for the jobs of all these runs; a queue that does not answer in time is not an error here.

    Args:
        folders: of the runs; those that were not submitted are skipped.
        accounts: whether to ask sacct for jobs that the queue has forgotten.
        timeout: seconds.
    """
    runs = [folder for folder in folders if is_submitted(folder)]
    try:
        _find_sent(runs, timeout)
        ids = [(run, job) for run in runs for job in jobs_of(run)[-_KNOWN_JOBS:]]
        known = QueueSnapshot(_queue([job for _, job in ids], timeout))
    except LockstepError as error:
        return QueueSnapshot(problem=error.message.split("\n")[-1])
    forgotten = [job for run, job in ids if known.of(run, job) is None] if accounts else []
    if not forgotten:
        return known
    from ..slurm import slurm_client

    try:
        return replace(known, accounts=slurm_client.accounting(forgotten) or {})
    except LockstepError:  # sacct is a help, not a need
        return known


def _find_sent(runs: list[Path], timeout: float) -> None:
    """Record jobs whose submitter could not: it was killed, or got no answer."""
    if pending := find_unanswered(runs):
        from ..slurm import slurm_client

        record_found_jobs(pending, slurm_client.folders(job_names(pending), timeout))


def _queue(ids: list[str], timeout: float) -> dict[str, QueuedJob]:
    if not ids:
        return {}
    from ..slurm import slurm_client

    return slurm_client.jobs(ids, timeout)


def query_jobs_or_raise(name: str, folders: Iterable[Path]) -> QueueSnapshot:
    """Ask SLURM for the jobs of these runs, and insist on an answer: to end jobs, one has to know of them.

    Raises:
        MachineError: it does not answer.
    """
    answer = query_jobs(folders, timeout=_LONG_PATIENCE_SECONDS)
    if answer.problem:
        raise MachineError(
            f"{name}: SLURM could not be asked for its jobs: {answer.problem}",
            f"try again; `launch status {name}` says what its folder knows",
        )
    return answer


def statuses(folders: Iterable[Path], *, accounts: bool = False) -> tuple[dict[Path, Status], str]:
    """Read the status of those folders that are runs, and why SLURM could not be asked."""
    found = [read_status(folder) for folder in folders if is_run(folder)]
    answer = query_jobs((run.folder for run in found), accounts=accounts)
    return {run.folder: merge_job_status(run, answer) for run in found}, answer.problem


def merge_job_status(found: Status, answer: QueueSnapshot) -> Status:
    """Merge what SLURM says into the status of a run; a run that was not submitted is unchanged."""
    if not is_submitted(found.folder):
        return found
    spare = _cancelled_chained_jobs(found.folder)
    ids = [job for job in jobs_of(found.folder) if job not in spare]
    queued = [job for number in ids if (job := answer.of(found.folder, number)) is not None]
    current = _current(queued)
    ended = (answer.account(found.folder, job) for job in reversed(ids))
    state = current.state if current else next(filter(None, ended), "")
    withdrawn = _was_withdrawn(found, current, ids)
    status = "stopped" if withdrawn else _status(found, current, answer, found.folder)
    waiting = [job.id for job in queued if job.state in _WAITING and job is not current]
    facts = {
        "job": current.id if current else ids[-1] if ids else None,
        "state": state or None,
        "reason": current.reason if current and current.state in _WAITING else None,
        "nodes": current.nodes or None if current else None,
        "time_left": current.time_left if current and current.state == "RUNNING" else None,
        "start": current.start if current and current.start not in ("", "N/A") else None,
        "restarts": current.restarts if current else 0,
        "next": waiting[0] if waiting else None,
        "jobs": ids,
        "asked": not answer.problem,
        "problem": answer.problem or None,
        "disagreement": (not withdrawn and _disagreement(found, state, ids, answer)) or None,
    }
    return replace(found, status=status, slurm=facts)


def _current(queued: list[QueuedJob]) -> QueuedJob | None:
    """Choose the job that runs, else the first that waits, else the newest that has ended."""
    for states in (_ACTIVE, _WAITING):
        for job in queued:
            if job.state in states:
                return job
    return queued[-1] if queued else None


def _was_withdrawn(found: Status, current: QueuedJob | None, ids: list[str]) -> bool:
    """Tell whether the newest job of a run without an outcome was cancelled before it could begin."""
    if not found.is_over or found.outcome or not ids:
        return False
    if current is not None and current.state in (*_WAITING, *_ACTIVE):
        return False
    events = {event.get("event") for event in read_jobs(found.folder) if str(event.get("job")) == ids[-1]}
    by_slurm = current is not None and current.id == ids[-1] and current.state.startswith("CANCELLED")
    return "started" not in events and (by_slurm or "cancelled" in events)


def _status(found: Status, current: QueuedJob | None, answer: QueueSnapshot, folder: Path) -> str:
    if not found.is_over or found.status == "done":
        return found.status
    if answer.problem:
        return _told_by_folder(found, folder)
    if current is not None and current.state in _WAITING:
        return "queued"
    if current is not None and current.state in _ACTIVE and not found.outcome:
        return "running"  # it starts or ends, or its lock is not to be seen from this machine
    return found.status


def _told_by_folder(found: Status, folder: Path) -> str:
    """Judge a run without an outcome by its folder alone."""
    if found.outcome:
        return found.status
    newest = {str(event.get("job")): str(event.get("event")) for event in read_jobs(folder)}
    if any(event == "started" for event in newest.values()):
        return "running"
    return "queued" if any(event == "submitted" for event in newest.values()) else found.status


def _disagreement(found: Status, state: str, ids: list[str], answer: QueueSnapshot) -> str:
    """Describe how SLURM and the run folder disagree; empty if they do not."""
    state = state.split("+", maxsplit=1)[0]
    alive = state in (*_WAITING, *_ACTIVE)
    if answer.problem or not ids:
        return ""
    if not found.is_over:
        return "" if alive else f"SLURM: {state or f'no job {ids[-1]}'}; yet a process holds the run"
    if not found.outcome:
        return "" if alive else f"SLURM: {state or f'no job {ids[-1]} any more'}; the run wrote no outcome"
    if state and not alive and state not in _FITTING.get(found.status, ()):
        return f"SLURM: {state}; the run's own outcome: {found.status}"
    if found.status == "done" and state in _WAITING:
        return "SLURM: a job of this run still waits; the run's own outcome: done"
    return ""


def describe_job(found: Status) -> list[str]:
    """Describe a run's jobs for ``launch status RUN``."""
    facts = found.slurm
    if not facts:
        return []
    if facts["problem"]:
        return [
            f"SLURM could not be asked: {facts['problem']}; this is what the run folder says",
            *_known(facts),
        ]
    if not facts["job"]:
        return [f"no job of it is known to SLURM; `launch resume {found.folder.name}` sends it"]
    line = f"job {facts['job']}: {facts['state'] or 'not in the queue any more'}"
    line += f" ({facts['reason']})" if facts["reason"] and facts["reason"] != "None" else ""
    line += _meaning_of_failed(found)
    line += f" on {facts['nodes']}" if facts["nodes"] else ""
    line += f", {facts['time_left']} left" if facts["time_left"] else ""
    if found.status == "queued" and facts["start"]:
        line += f", expected to start at {facts['start'].replace('T', ' ')}"
    count = facts["restarts"]
    line += f", requeued {count} time{'s' * (count > 1)}" if count else ""
    lines = [line]
    if facts["next"]:
        lines.append(f"job {facts['next']} waits to continue after it")
    return [*lines, *([facts["disagreement"]] if facts["disagreement"] else [])]


def _meaning_of_failed(found: Status) -> str:
    """Explain FAILED beside a run that was stopped as was asked for; empty where there is nothing to explain."""
    state = str(found.slurm["state"] or "").partition("+")[0]
    if state != "FAILED" or found.status not in ("stopped", "cancelled"):
        return ""
    return f" (so SLURM calls every exit status but 0; {found.outcome.get('exit_code', 75)}: {found.status})"


def job_summary(found: Status) -> str:
    """Summarize the job: ``12 PENDING (Resources)``, ``12 FAILED, gave up``; ``!`` if SLURM and the run disagree."""
    facts = found.slurm
    if not facts:
        return ""
    if not facts["job"]:
        return "?" if facts["problem"] else "not sent"
    state = facts["state"] or ("?" if facts["problem"] else "gone")
    why = f" ({facts['reason']})" if facts["reason"] not in (None, "None") else ""
    state += ", gave up" if found.gave_up else f" ({found.status})" if _meaning_of_failed(found) else ""
    return f"{facts['job']} {state}{why}" + (" !" if facts["disagreement"] else "")


def _known(facts: Mapping[str, Any]) -> list[str]:
    return [f"its newest job is {facts['job']}"] if facts["job"] else []


def live_jobs(folder: Path, answer: QueueSnapshot) -> list[QueuedJob]:
    """List the run's jobs that wait or run."""
    known = (answer.of(folder, job) for job in jobs_of(folder))
    return [job for job in known if job is not None and job.state in (*_WAITING, *_ACTIVE)]


def is_waiting(job: QueuedJob) -> bool:
    """Tell whether it has not begun."""
    return job.state in _WAITING

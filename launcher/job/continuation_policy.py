"""Whether and how a SLURM job's run continues after an attempt has ended: pure functions, no SLURM here.

A run's attempts are counted over all of its jobs, from what each wrote into the job log. What counts against which
budget: a preemption, a signal and an attempt that was lost with its node against ``max_preemptions``; a failure
against ``max_crashes``. A time limit costs nothing. Nothing continues for ever: a run that has gained no step twice,
or has failed without having gained one, would only do it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..slurm import JobSpec

EndCause = Literal[
    "done",
    "asked",
    "cancelled",
    "refused",
    "limit",
    "preempted",
    "requeued",
    "signal",
    "lost",
    "crashed",
    "again",
]
"""Why an attempt ended: ``asked`` by a person (``launch stop``); ``cancelled`` by scancel; ``refused``: no other
attempt would fare better; ``limit``: of time; ``requeued`` by SLURM or an administrator; ``signal``: SLURM's, or
that of ``scancel --signal``; ``lost`` without a word, with its node or its batch process; ``again``: a script that
ended with status 75 by itself."""
Action = Literal["finish", "stop", "continue", "give up"]

SHORT_SECONDS = 60.0
"""A script tells of no steps: one that ran for less than this is taken to have gained nothing."""


@dataclass(frozen=True)
class JobEnd:
    """The end of one attempt."""

    cause: EndCause
    exit_code: int
    gained: bool
    """Whether the newest checkpoint is newer than at the attempt's start."""


@dataclass(frozen=True)
class ContinuationDecision:
    """The decision about what happens next, and why, in plain words."""

    action: Action
    reason: str

    @property
    def is_last(self) -> bool:
        """Whether no attempt follows."""
        return self.action != "continue"


def decide(end: JobEnd, before: Sequence[JobEnd], job: JobSpec) -> ContinuationDecision:
    """Decide what follows an attempt.

    Args:
        end: of this attempt.
        before: of the ones before it, oldest first.
        job: with the budgets.
    """
    words = describe_end(end)
    if end.cause == "done":
        return ContinuationDecision("finish", words)
    if end.cause in ("asked", "cancelled"):
        return ContinuationDecision("stop", words)
    if end.cause == "refused":
        return ContinuationDecision("give up", f"{words}: another attempt would end in the same way")
    if job.how == "none":
        return ContinuationDecision("give up", f"{words}, and the job was submitted not to continue")
    return _within_budgets(end, before, job, words)


def _within_budgets(end: JobEnd, before: Sequence[JobEnd], job: JobSpec, words: str) -> ContinuationDecision:
    if end.cause == "crashed" and not end.gained:
        return ContinuationDecision("give up", f"{words} without having gained a step: it would fail again")
    if not end.gained and before and not before[-1].gained:
        return ContinuationDecision("give up", f"{words}, and two attempts in a row have gained no step")
    crashes = _count(["crashed"], end, before)
    if crashes > job.max_crashes:
        return ContinuationDecision(
            "give up", f"{words}, {_times(crashes)} in all (max_crashes is {job.max_crashes})"
        )
    losses = _count(["preempted", "requeued", "signal", "lost"], end, before)
    if losses > job.max_preemptions:
        return ContinuationDecision(
            "give up", f"{words}, {_times(losses)} in all (max_preemptions is {job.max_preemptions})"
        )
    return ContinuationDecision("continue", words)


def _count(causes: Sequence[str], end: JobEnd, before: Sequence[JobEnd]) -> int:
    """Count the ends with one of these causes; 0 if this end has another."""
    if end.cause not in causes:
        return 0
    return sum(other.cause in causes for other in [*before, end])


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def describe_end(end: JobEnd) -> str:
    """Describe an end."""
    words = {
        "done": "it is done",
        "asked": "it was asked to stop",
        "cancelled": "the job was cancelled",
        "refused": f"it was refused with status {end.exit_code}",
        "limit": "it stopped at the job's time limit",
        "preempted": "it was preempted",
        "requeued": "its job was put back into the queue",
        "signal": "it was stopped by a signal",
        "lost": "it was lost without a word",
        "crashed": f"it failed with status {end.exit_code}",
        "again": "it ended with status 75, to be started again",
    }
    return words[end.cause]


def ends(events: Sequence[Mapping[str, Any]]) -> list[JobEnd]:
    """Return the ends in a job log since the user last submitted the run, oldest first."""
    found: list[JobEnd] = []
    for event in events:
        if event.get("event") in ("sending", "submitted") and not _follows(event):
            found.clear()
        elif event.get("event") == "ended" and event.get("cause"):
            found.append(JobEnd(event["cause"], int(event["exit_code"]), bool(event["gained"])))
    return found


def _follows(event: Mapping[str, Any]) -> bool:
    """Check whether an event is about a chained job."""
    return bool(event.get("after") or (event.get("facts") or {}).get("after"))


def is_withdrawn(events: Sequence[Mapping[str, Any]], job: str) -> bool:
    """Check whether the user has cancelled a job by ``launch stop`` or ``cancel``: those commands note a reason."""
    return any(
        event.get("event") == "cancelled" and event.get("job") == job and event.get("why") for event in events
    )


def attempts_without_end(events: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the attempts that began and whose end was not written, oldest first."""
    over = {_key(event) for event in events if event.get("event") == "ended"}
    return [event for event in events if event.get("event") == "started" and _key(event) not in over]


def _key(event: Mapping[str, Any]) -> tuple[str, int]:
    return str(event.get("job")), int(event.get("restart", 0))


def cause_from_job_state(state: str) -> EndCause:
    """Derive from the job's state in SLURM why an attempt ended that wrote nothing about it.

    Args:
        state: ``JobState`` of ``scontrol show job``; empty where SLURM does not know the job any more.
    """
    causes: dict[str, EndCause] = {"CANCELLED": "cancelled", "PREEMPTED": "preempted", "TIMEOUT": "limit"}
    return causes.get(state.split("+", maxsplit=1)[0], "lost")


def last_decision(events: Sequence[Mapping[str, Any]]) -> ContinuationDecision | None:
    """Return the decision of the newest attempt that has ended; None before the first."""
    decided = [event for event in events if event.get("event") == "ended" and event.get("action")]
    return (
        ContinuationDecision(decided[-1]["action"], str(decided[-1].get("reason", ""))) if decided else None
    )

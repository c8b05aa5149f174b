"""What follows an attempt in SLURM: a table over how it ended, what was before, and what was allowed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from lockstep.launcher.job.continuation_policy import (
    JobEnd,
    attempts_without_end,
    cause_from_job_state,
    decide,
    describe_end,
    ends,
    last_decision,
)
from lockstep.launcher.job.end_cause import AttemptStart, cause_from_slurm, classify_end
from lockstep.launcher.runs.stop_requests import record_stop_reason
from lockstep.launcher.slurm.job_spec import JobSpec

GAINED, LIMIT = JobEnd("preempted", 75, gained=True), JobEnd("limit", 75, gained=True)
CRASH = JobEnd("crashed", 1, gained=True)
IDLE = JobEnd("preempted", 75, gained=False)


def _job(**more: Any) -> JobSpec:
    return JobSpec("train", "r", "w", **{"how": "chain", "max_preemptions": 3, "max_crashes": 1, **more})


@pytest.mark.parametrize(
    ("end", "before", "job", "action", "words"),
    [
        (JobEnd("done", 0, gained=True), [], {}, "finish", "done"),
        (JobEnd("done", 0, gained=False), [CRASH] * 9, {}, "finish", "done"),
        (JobEnd("asked", 75, gained=True), [], {}, "stop", "asked"),
        (JobEnd("cancelled", 75, gained=True), [], {}, "stop", "cancelled"),
        (JobEnd("refused", 2, gained=False), [], {}, "give up", "same way"),
        (JobEnd("refused", 6, gained=True), [], {}, "give up", "same way"),
        (LIMIT, [], {}, "continue", "time limit"),
        (LIMIT, [LIMIT] * 99, {}, "continue", "time limit"),
        (LIMIT, [], {"how": "none"}, "give up", "not to continue"),
        (LIMIT, [], {"how": "requeue"}, "continue", "time limit"),
        (GAINED, [GAINED] * 2, {}, "continue", "preempted"),
        (GAINED, [GAINED] * 3, {}, "give up", "max_preemptions is 3"),
        (LIMIT, [GAINED] * 3, {}, "continue", "time limit"),
        (
            JobEnd("lost", -1, gained=True),
            [GAINED, JobEnd("signal", 75, gained=True), GAINED],
            {},
            "give up",
            "4 times",
        ),
        (GAINED, [], {"max_preemptions": 0}, "give up", "once"),
        (CRASH, [], {}, "continue", "status 1"),
        (CRASH, [CRASH], {}, "give up", "max_crashes is 1"),
        (CRASH, [GAINED] * 3, {}, "continue", "status 1"),
        (JobEnd("crashed", 1, gained=False), [], {}, "give up", "without having gained"),
        (JobEnd("crashed", 4, gained=False), [GAINED], {}, "give up", "without having gained"),
        (IDLE, [], {}, "continue", "preempted"),
        (IDLE, [GAINED], {}, "continue", "preempted"),
        (IDLE, [IDLE], {}, "give up", "two attempts in a row"),
        (JobEnd("limit", 75, gained=False), [IDLE], {}, "give up", "two attempts in a row"),
        (
            JobEnd("again", 75, gained=False),
            [JobEnd("again", 75, gained=False)],
            {},
            "give up",
            "two attempts in a row",
        ),
        (JobEnd("again", 75, gained=True), [JobEnd("again", 75, gained=True)] * 9, {}, "continue", "75"),
    ],
)
def test_what_follows(
    end: JobEnd, before: list[JobEnd], job: dict[str, Any], action: str, words: str
) -> None:
    verdict = decide(end, before, _job(**job))
    assert verdict.action == action
    assert words in verdict.reason
    assert verdict.reason.startswith(describe_end(end))


def test_the_job_log_tells_of_ends_since_somebody_submitted_the_run() -> None:
    ended = {"event": "ended", "cause": "limit", "exit_code": 75, "gained": True, "action": "continue"}
    events: list[dict[str, Any]] = [
        {"event": "submitted", "job": "1"},
        {"event": "started", "job": "1", "restart": 0, "step": 0},
        {"event": "submitted", "job": "2", "after": "1"},
        {**ended, "job": "1", "restart": 0, "reason": "r"},
        {"event": "started", "job": "2", "restart": 0, "step": 5},
    ]
    assert ends(events) == [LIMIT]
    assert attempts_without_end(events) == [events[-1]]
    found = last_decision(events)
    assert found is not None
    assert (found.action, found.is_last) == ("continue", False)
    assert ends([*events, {"event": "submitted", "job": "3"}]) == []
    assert ends([*events, {"event": "sending", "job": "", "facts": {"after": "2"}}]) == [LIMIT]
    assert ends([*events, {"event": "sending", "job": "", "facts": {}}]) == []


@pytest.mark.parametrize(
    ("state", "cause"),
    [
        ("CANCELLED", "cancelled"), ("PREEMPTED", "preempted"), ("TIMEOUT", "limit"), ("NODE_FAIL", "lost"),
        ("FAILED", "lost"), ("", "lost"),
    ],
)  # fmt: skip
def test_an_attempt_that_said_nothing(state: str, cause: str) -> None:
    assert cause_from_job_state(state) == cause


@pytest.mark.parametrize(
    ("details", "cause"),
    [
        ({"JobState": "RUNNING", "PreemptTime": "None", "Reason": "None"}, None),
        ({"JobState": "RUNNING", "PreemptTime": "2026-01-01T00:00:00"}, "preempted"),
        ({"JobState": "COMPLETING", "Reason": "TimeLimit", "PreemptTime": "None"}, "limit"),
        ({"JobState": "COMPLETING", "Reason": "None", "Restarts": "2"}, "cancelled"),
        ({"JobState": "COMPLETING", "Reason": "None", "Restarts": "3"}, "requeued"),
        ({"JobState": "PENDING", "Reason": "BeginTime", "Restarts": "3"}, "requeued"),
        ({"JobState": "NODE_FAIL", "Restarts": "2"}, "lost"),
        ({"JobState": "CANCELLED"}, "cancelled"),
        ({}, None),
    ],
)
def test_what_slurm_did(details: dict[str, str], cause: str | None) -> None:
    assert cause_from_slurm(details, 2) == cause


@pytest.mark.parametrize(
    ("details", "seconds", "gained"),
    [
        ({"JobState": "RUNNING"}, 5, False),
        ({"JobState": "RUNNING"}, 65, True),
        ({"JobState": "RUNNING", "PreemptTime": "2026-01-01T00:00:00"}, 5, True),
        ({"JobState": "PENDING", "Restarts": "3"}, 5, True),
        ({"JobState": "NODE_FAIL"}, 5, True),
        ({"JobState": "COMPLETING", "Reason": "TimeLimit"}, 5, False),
    ],
)
def test_a_script_that_slurm_ended_early_is_not_blamed(
    tmp_path: Path, details: dict[str, str], seconds: float, *, gained: bool
) -> None:
    began = AttemptStart(2, 0, time.time() - seconds)
    end = classify_end(tmp_path, JobSpec("run", "r", "w"), 1, began, heard=set(), details=details)
    assert end.gained is gained


@pytest.mark.parametrize(
    ("outcome", "by", "status", "cause"),
    [
        ("stopped", "me on n1 (process 7)", 75, "asked"),
        ("stopped", "SIGTERM", 143, "signal"),  # before its first step
        ("failed", "me on n1 (process 7)", 143, "asked"),  # it took longer than --stop-timeout
        ("failed", "the job's time limit", 143, "limit"),
        ("failed", None, 143, "signal"),
        ("failed", "me on n1 (process 7)", 1, "crashed"),
        ("cancelled", "me on n1 (process 7)", 143, "cancelled"),
        ("cancelled", None, 143, "cancelled"),
    ],
)
def test_whoever_asked_for_the_end_is_its_cause_with_a_checkpoint_or_without(
    outcome: str, by: str | None, status: int, cause: str, tmp_path: Path
) -> None:
    (tmp_path / "outcome.json").write_text(json.dumps({"status": outcome, "exit_code": status}))
    if by is not None:
        record_stop_reason(tmp_path, by)
    began = AttemptStart(0, 0, time.time())
    end = classify_end(tmp_path, _job(), status, began, heard=set(), details={"JobState": "RUNNING"})
    assert end.cause == cause

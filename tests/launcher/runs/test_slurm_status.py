"""What SLURM says and what the run folder says, put together: a table without a SLURM."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lockstep.launcher.commands import status as board
from lockstep.launcher.runs import slurm_status as job_state
from lockstep.launcher.runs.run_folder import runs_root
from lockstep.launcher.runs.run_lock import hold_run_lock
from lockstep.launcher.runs.run_status import read_status
from lockstep.launcher.runs.slurm_status import (
    QueueSnapshot,
    describe_job,
    job_summary,
    merge_job_status,
    query_jobs,
)
from lockstep.launcher.slurm.job_log import note_job
from lockstep.launcher.slurm.slurm_client import QueuedJob
from lockstep.launcher.sweep.sweep_folder import Sweep, write_sweep
from tests.helpers.slurm.answers import queue_answer, submitted_run

STILL = "SLURM: a job of this run still waits"
SILENT = QueueSnapshot(problem="no answer in 5 s")


@pytest.mark.parametrize(
    ("outcome", "answer", "status", "disagreement"),
    [
        (None, queue_answer("PENDING"), "queued", None),
        (None, queue_answer("CONFIGURING"), "queued", None),
        (None, queue_answer("RUNNING"), "running", None),
        (None, queue_answer("COMPLETING"), "running", None),
        (None, queue_answer("OUT_OF_MEMORY"), "failed", "SLURM: OUT_OF_MEMORY; the run wrote no outcome"),
        (None, queue_answer("CANCELLED"), "failed", "SLURM: CANCELLED; the run wrote no outcome"),
        (None, queue_answer("COMPLETED"), "failed", "SLURM: COMPLETED; the run wrote no outcome"),
        (None, queue_answer(), "failed", "SLURM: no job 2 any more; the run wrote no outcome"),
        (None, queue_answer(job2="NODE_FAIL"), "failed", "SLURM: NODE_FAIL; the run wrote no outcome"),
        (None, SILENT, "queued", None),
        ("done", queue_answer("COMPLETED"), "done", None),
        ("done", queue_answer(), "done", None),
        ("done", queue_answer("RUNNING"), "done", None),
        ("done", queue_answer("FAILED"), "done", "SLURM: FAILED; the run's own outcome: done"),
        ("done", queue_answer("TIMEOUT"), "done", "SLURM: TIMEOUT; the run's own outcome: done"),
        (
            "done",
            queue_answer(job2="OUT_OF_MEMORY"),
            "done",
            "SLURM: OUT_OF_MEMORY; the run's own outcome: done",
        ),
        (
            "done",
            queue_answer("COMPLETED", "PENDING"),
            "done",
            "SLURM: a job of this run still waits; the run's own outcome: done",
        ),
        ("done", SILENT, "done", None),
        ("stopped", queue_answer("FAILED"), "stopped", None),
        ("stopped", queue_answer("TIMEOUT", "PENDING"), "queued", None),
        (
            "stopped",
            queue_answer("OUT_OF_MEMORY"),
            "stopped",
            "SLURM: OUT_OF_MEMORY; the run's own outcome: stopped",
        ),
        ("cancelled", queue_answer("CANCELLED"), "cancelled", None),
        ("cancelled", queue_answer("FAILED"), "cancelled", None),
        ("failed", queue_answer("FAILED"), "failed", None),
        ("failed", queue_answer("COMPLETED"), "failed", "SLURM: COMPLETED; the run's own outcome: failed"),
    ],
)
def test_slurm_and_the_run_are_reconciled(
    outcome: str | None, answer: QueueSnapshot, status: str, disagreement: str | None
) -> None:
    found = merge_job_status(read_status(submitted_run("r", "1", "2", outcome=outcome)), answer)
    assert (found.status, found.slurm["disagreement"]) == (status, disagreement)
    assert (disagreement or "job") in "\n".join(describe_job(found))


@pytest.mark.parametrize(
    ("status", "is_explained"), [("stopped", True), ("cancelled", True), ("failed", False)]
)
def test_failed_beside_a_run_that_was_stopped_is_explained(status: str, *, is_explained: bool) -> None:
    found = merge_job_status(
        read_status(submitted_run("r", "1", "2", outcome=status)), queue_answer(job2="FAILED")
    )
    said = describe_job(found)[0]
    assert said.startswith("job 2: FAILED")
    assert ("so SLURM calls every exit status but 0" in said) == is_explained
    assert (f"FAILED ({status})" in job_summary(found)) == is_explained


@pytest.mark.parametrize("by", ["launch", "scancel", "launch, forgotten", "launch, silent"])
def test_a_run_whose_job_was_withdrawn_is_stopped_and_can_go_on(by: str, capsys: Any) -> None:
    folder = submitted_run("r", "1")
    if by != "scancel":
        note_job(folder, "cancelled", "1", why="launch stop")
    answers = {"launch, forgotten": queue_answer(), "launch, silent": SILENT}
    found = merge_job_status(read_status(folder), answers.get(by, queue_answer("CANCELLED")))
    assert (found.status, found.slurm["disagreement"]) == ("stopped", None)
    assert (found.was_interrupted, found.is_resumable, found.is_over) == (False, True, True)
    assert "!" not in job_summary(found)
    shown = board.details(found)
    assert shown[0] == "r: stopped before it began"
    assert shown[-1] == "resume it with `launch resume r`"


@pytest.mark.parametrize(
    ("event", "answer", "status"),
    [
        ("started", queue_answer("CANCELLED"), "failed"),
        ("started", queue_answer(), "failed"),
        ("cancelled", queue_answer("FAILED", "PENDING"), "queued"),
        ("cancelled", queue_answer("PENDING"), "queued"),
        ("cancelled", queue_answer("COMPLETING"), "running"),
        ("chained", queue_answer("CANCELLED"), "failed"),
    ],
)
def test_a_job_that_began_or_still_lives_was_not_withdrawn(
    event: str, answer: QueueSnapshot, status: str
) -> None:
    folder = submitted_run("r", "1")
    if event == "chained":
        note_job(folder, "started", "1")
        note_job(folder, "submitted", "2", after="1")
        note_job(folder, "cancelled", "2")
    else:
        note_job(folder, event, "1")
        note_job(folder, "submitted", "2") if len(answer.jobs) > 1 else None
    assert merge_job_status(read_status(folder), answer).status == status


def test_a_run_whose_lock_is_held_runs_and_slurm_may_not_know_it() -> None:
    folder = submitted_run("r", "1")
    with hold_run_lock(folder):
        assert merge_job_status(read_status(folder), queue_answer("RUNNING")).slurm["disagreement"] is None
        gone = merge_job_status(read_status(folder), queue_answer())
        silent = merge_job_status(read_status(folder), SILENT)
    assert (gone.status, silent.status) == ("running", "running")
    assert gone.slurm["disagreement"] == "SLURM: no job 1; yet a process holds the run"


def test_what_waits_behind_a_job_is_told() -> None:
    found = merge_job_status(
        read_status(submitted_run("r", "1", "2")), queue_answer("RUNNING", "PENDING", reason="Dependency")
    )
    assert (found.slurm["job"], found.slurm["next"]) == ("1", "2")
    assert describe_job(found) == ["job 1: RUNNING on n1, 3:20:00 left", "job 2 waits to continue after it"]


def test_a_chained_job_that_was_not_needed_says_nothing_of_the_run() -> None:
    folder = submitted_run("x", "1", outcome="done")
    note_job(folder, "submitted", "2", after="1")
    note_job(folder, "cancelled", "2")
    found = merge_job_status(read_status(folder), queue_answer("COMPLETED", "CANCELLED"))
    assert (found.slurm["job"], found.slurm["disagreement"]) == ("1", None)


def test_a_run_that_started_is_not_called_queued_while_slurm_is_silent() -> None:
    folder = submitted_run("r", "1")
    note_job(folder, "started", "1")
    assert merge_job_status(read_status(folder), SILENT).status == "running"


@pytest.mark.parametrize(
    "line",
    [
        '{"event":"started","job":null}', '{"event":"submitted","job":"x"}', '{"event":"submitted"}',
        '{"event":"sending"}', '{"event":"sending","name":"r","workdir":7}', '{"event":[]}', "[]", "{",
    ],
)  # fmt: skip
def test_a_damaged_job_log_costs_no_other_run_its_answer(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lockstep.launcher.slurm import slurm_client

    asked: list[list[str]] = []

    def jobs(ids: Any, timeout: float) -> dict[str, QueuedJob]:
        asked.append([*ids])
        return dict(queue_answer("PENDING").jobs)

    monkeypatch.setattr(slurm_client, "jobs", jobs)
    runs = [submitted_run("a", "1"), submitted_run("b", "2")]
    with (runs[1] / "slurm" / "jobs.jsonl").open("a") as log:
        log.write(line + "\n")
    told = [merge_job_status(read_status(run), query_jobs(runs)) for run in runs]
    assert [found.status for found in told] == ["queued", "failed"]
    assert told[1].slurm["jobs"] == ["2"]
    assert asked[0] == ["1", "2"]


def test_one_question_serves_the_whole_table(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    from lockstep.launcher.slurm import slurm_client

    asked: list[list[str]] = []

    def jobs(ids: Any, timeout: float) -> dict[str, QueuedJob]:
        asked.append(sorted(map(str, ids)))
        return dict(queue_answer("PENDING", "RUNNING", reason="Resources").jobs)

    monkeypatch.setattr(slurm_client, "jobs", jobs)
    submitted_run("a", "1")
    submitted_run("b", "2")
    board.show_status(None, watch=False, as_json=False)
    assert asked == [["1", "2"]]
    shown = capsys.readouterr().out
    assert "1 PENDING (Resources)" in shown
    assert "2 RUNNING" in shown
    assert shown.splitlines()[0].split()[-1] == "SLURM"


GAVE_UP = "it was preempted, 4 times in all (max_preemptions is 3)"


def gave_up(name: str, status: str, **more: Any) -> Path:
    folder = submitted_run(name, "1")
    (folder / "spec.json").write_text("{}")
    outcome = {"status": status, "exit_code": 75, "gave_up": GAVE_UP, **more}
    (folder / "outcome.json").write_text(json.dumps(outcome))
    return folder


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[QueueSnapshot]:
    """What SLURM says whenever it is asked."""
    said = [queue_answer("COMPLETED")]
    monkeypatch.setattr(board, "query_jobs", lambda *_, **__: said[0])
    monkeypatch.setattr(job_state, "query_jobs", lambda *_, **__: said[0])
    return said


def test_a_run_that_gave_up_says_so_and_why(answers: list[QueueSnapshot], capsys: Any) -> None:
    gave_up("r", "stopped")
    board.show_status("r", watch=False, as_json=False)
    shown = capsys.readouterr().out.splitlines()
    assert f"gave up: {GAVE_UP}" in shown
    assert shown[-1].startswith("resume it with `launch resume r`, which counts its attempts anew")
    board.show_status("r", watch=False, as_json=True)
    assert json.loads(capsys.readouterr().out)["gave_up"] == GAVE_UP
    board.show_status(None, watch=False, as_json=False)
    table = capsys.readouterr().out
    assert "1 COMPLETED, gave up\n" in table
    assert f"r gave up: {GAVE_UP}\n`launch status r` says what to do\n" in table
    answers[0] = queue_answer("PENDING")  # it was resumed
    board.show_status("r", watch=False, as_json=False)
    board.show_status(None, watch=False, as_json=False)
    assert "gave up" not in capsys.readouterr().out


def test_a_reason_that_is_the_error_stands_there_once(answers: list[QueueSnapshot], capsys: Any) -> None:
    gave_up("r", "failed", error={"message": GAVE_UP})
    board.show_status("r", watch=False, as_json=False)
    assert capsys.readouterr().out.count(GAVE_UP) == 1
    gave_up("s", "failed", error={"message": "no GPU"})
    board.show_status("s", watch=False, as_json=False)
    assert f"error: no GPU\ngave up: {GAVE_UP}\n" in capsys.readouterr().out


def test_a_sweep_says_of_each_point_that_it_gave_up(answers: list[QueueSnapshot], capsys: Any) -> None:
    folder = runs_root() / "s"
    folder.mkdir(parents=True)
    points = [{"lr": "1"}, {"lr": "2"}]
    write_sweep(Sweep(folder, "own", "config.yaml", folder, [], {"lr": ["1", "2"]}, points, slurm=True))
    gave_up("s-000", "stopped")
    gave_up("s-001", "failed", error={"message": "no GPU"})
    board.show_status("s", watch=False, as_json=False)
    shown = capsys.readouterr().out.splitlines()
    assert [line for line in shown if GAVE_UP in line or "no GPU" in line] == [
        f"s-000 gave up: {GAVE_UP}",
        "s-001: no GPU",
        f"s-001 gave up: {GAVE_UP}",
    ]
    board.show_status("s", watch=False, as_json=True)
    assert [point["gave_up"] for point in json.loads(capsys.readouterr().out)["points"]] == [GAVE_UP] * 2


def test_a_run_that_wrote_no_outcome_names_the_log_of_its_last_job(
    answers: list[QueueSnapshot], capsys: Any
) -> None:
    answers[0] = queue_answer("FAILED")
    folder = submitted_run("r", "1", "2")
    for number, name in enumerate(("job-2.log", "job-1.log"), 1):
        (folder / "slurm" / name).write_text("")
        os.utime(folder / "slurm" / name, (number, number))
    board.show_status("r", watch=False, as_json=False)
    assert f"its last job's log: {folder}/slurm/job-1.log\n" in capsys.readouterr().out

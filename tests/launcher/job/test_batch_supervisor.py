"""What a job's own supervisor does while SLURM is silent, or has lost what was to follow; the SLURM is made up here."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lockstep.launcher.job import batch_supervisor, chained_job, retry
from lockstep.launcher.job.batch_supervisor import BatchSupervisor
from lockstep.launcher.runs.run_folder import runs_root
from lockstep.launcher.slurm import slurm_client
from lockstep.launcher.slurm.current_job import JobStart
from lockstep.launcher.slurm.job_log import note_job, read_jobs
from lockstep.launcher.slurm.job_spec import JobSpec
from lockstep.launcher.slurm.tool_call import SlurmError, SlurmSilentError


@dataclass
class Slurm:
    """Job 1 is the present one."""

    states: dict[str, str] = field(default_factory=lambda: {"1": "RUNNING"})
    requeue_allowed: bool = True
    silent: int = 0
    """So many of the next calls get no answer."""
    heard: bool = False
    """Whether what got no answer was done all the same."""
    forbidden: bool = False
    """Whether no job may be submitted from here."""
    submitted: list[list[str]] = field(default_factory=list)
    requeued: int = 0

    def _silence(self, what: str) -> None:
        if self.silent:
            self.silent -= 1
            raise SlurmSilentError(f"{what}\nno answer in 20 s")

    def details(self, job: str) -> dict[str, str] | None:
        self._silence("scontrol show job")
        restarts = str(self.requeued if job == "1" else 0)
        facts = {"Requeue": "1" if self.requeue_allowed else "0", "Restarts": restarts}
        return {"JobState": self.states[job], **facts} if job in self.states else None

    def submit(self, options: Sequence[str], script: str = "", extra_variables: Iterable[str] = ()) -> int:
        if self.forbidden:
            raise SlurmError("sbatch\nnot from here")
        number = len(self.submitted) + 2
        if not self.silent or self.heard:
            self.submitted.append(list(options))
            self.states[str(number)] = "PENDING"
        self._silence("sbatch")
        return number

    def folders(self, names: Iterable[str], timeout: float = 20.0) -> dict[str, str]:
        self._silence("squeue")
        return {job: str(runs_root() / next(iter(names))) for job in self.states}

    def requeue(self, job: str) -> None:
        if not self.silent or self.heard:
            if not self.requeue_allowed or self.requeued:
                raise SlurmError("scontrol requeue\nRequested operation is presently disabled")
            self.requeued += 1
        self._silence("scontrol requeue")

    def cancel(self, *jobs: str) -> None:
        self._silence("scancel")
        self.states.update(dict.fromkeys(jobs, "CANCELLED"))


@dataclass
class Step:
    """A step that is over at once."""

    returncode: int

    def poll(self) -> int:
        return self.returncode


Live = Callable[..., Path]


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Slurm:
    made = Slurm()
    for name in ("details", "submit", "folders", "requeue", "cancel"):
        monkeypatch.setattr(slurm_client, name, getattr(made, name))
    monkeypatch.setattr(batch_supervisor, "_STOP_SIGNALS", ())
    monkeypatch.setattr(retry, "_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(chained_job, "_NOTED_SECONDS", 0.0)
    return made


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Live:
    """``live(during, how="chain")``: one start of job 1, whose attempt stops at its time limit after ``during``."""

    def run(during: Callable[[Path], object] = lambda _: None, *, status: int = 75, **job: Any) -> Path:
        folder = runs_root() / "r"
        folder.mkdir(parents=True, exist_ok=True)

        def start_step(folder: Path, *_: Any) -> Step:
            outcome = {"status": "stopped", "exit_code": 75}
            (folder / "outcome.json").write_text(json.dumps(outcome))
            taken = {"what": "stop", "time": 1.0, "by": "the job's time limit"}
            (folder / "request.taken.json").write_text(json.dumps(taken))
            (folder / "checkpoints" / "step_00000007").mkdir(parents=True)
            during(folder)
            return Step(status)

        monkeypatch.setattr(batch_supervisor, "start_step", start_step)
        monkeypatch.setattr(
            batch_supervisor, "newest_step", lambda folder: 7 * (folder / "checkpoints").exists()
        )
        made = JobSpec("run", "r", "w", **{"how": "chain", **job})
        BatchSupervisor(folder, made, JobStart("1", 0)).run()
        return folder

    return run


def ended(folder: Path) -> dict[str, Any]:
    (found,) = [event for event in read_jobs(folder) if event["event"] == "ended"]
    return found


def gave_up(folder: Path) -> str:
    return str(json.loads((folder / "outcome.json").read_text()).get("gave_up", ""))


def test_the_job_that_waits_goes_on(slurm: Slurm, run: Live) -> None:
    folder = run()
    assert (ended(folder)["action"], ended(folder)["next"]) == ("continue", "2")
    assert len(slurm.submitted) == 1
    assert not slurm.requeued


def test_what_the_first_job_had_to_wait_for_holds_up_no_other(slurm: Slurm, run: Live) -> None:
    once = ["--hold", "--ho", "--begin=now+1hour", "--beg=16:00", "--dependency=singleton"]
    kept = [
        "--chdir=/h",
        "--nodes=2",
        "--bb=x",
        "--gres=a:1",
        "--deadline=now+2days",
        "--nice=5",
        "--no-requeue",
    ]
    run(sbatch=[*kept[:3], *once, *kept[3:]])
    (sent,) = slurm.submitted
    assert sent[: len(kept) + 1] == [*kept, "--dependency=afterany:1"]
    assert not sent[len(kept) + 1].startswith("--")


@pytest.mark.parametrize("state", ["CANCELLED", "gone"])
def test_another_job_is_submitted_where_the_one_that_waited_does_not_any_more(
    slurm: Slurm, run: Live, state: str
) -> None:
    def lose(_: Path) -> None:
        slurm.states["2"] = state
        if state == "gone":
            del slurm.states["2"]

    folder = run(lose)
    assert (ended(folder)["action"], ended(folder)["next"]) == ("continue", "3")
    assert [event["job"] for event in read_jobs(folder) if event["event"] == "submitted"] == ["2", "3"]
    assert not slurm.requeued


def test_where_no_other_job_is_taken_it_is_requeued_or_given_up(slurm: Slurm, run: Live) -> None:
    def lose(_: Path) -> None:
        slurm.states["2"] = "CANCELLED"
        slurm.forbidden = True

    folder = run(lose)
    assert (ended(folder)["action"], ended(folder)["next"], slurm.requeued) == ("continue", None, 1)
    assert not gave_up(folder)


def test_what_slurm_said_is_told_where_it_takes_nothing(slurm: Slurm, run: Live) -> None:
    slurm.forbidden, slurm.requeue_allowed = True, False
    folder = run()
    assert ended(folder)["action"] == "give up"
    assert gave_up(folder).endswith("neither another job nor this one again: not from here")


def test_a_job_that_a_person_withdrew_is_not_replaced(slurm: Slurm, run: Live) -> None:
    def stop(folder: Path) -> None:
        slurm.states["2"] = "CANCELLED"
        note_job(folder, "cancelled", "2", why="launch stop")

    folder = run(stop)
    assert (ended(folder)["action"], ended(folder)["next"]) == ("stop", None)
    assert (len(slurm.submitted), slurm.requeued) == (1, 0)


def test_a_job_that_slurm_is_silent_about_is_taken_to_wait(slurm: Slurm, run: Live) -> None:
    folder = run(lambda _: setattr(slurm, "silent", 5))
    assert (ended(folder)["action"], ended(folder)["next"]) == ("continue", "2")
    assert (len(slurm.submitted), slurm.requeued) == (1, 0)


@pytest.mark.parametrize("heard", [False, True])
@pytest.mark.parametrize("silent", [1, 2, 5])
def test_a_requeue_outlives_a_silent_controller(slurm: Slurm, run: Live, silent: int, *, heard: bool) -> None:
    slurm.heard = heard
    folder = run(lambda _: setattr(slurm, "silent", silent), how="requeue")
    assert (ended(folder)["action"], slurm.requeued) == ("continue", 1)
    assert not gave_up(folder)


@pytest.mark.parametrize("heard", [False, True])
def test_a_job_is_submitted_once_when_slurm_answers_again(
    slurm: Slurm, run: Live, monkeypatch: pytest.MonkeyPatch, *, heard: bool
) -> None:
    def lose(_: Path) -> None:
        slurm.states["2"] = "CANCELLED"
        slurm.heard = heard
        real, calls = slurm.submit, []

        def submit(*args: Any, **more: Any) -> int:
            if not calls:
                slurm.silent = 4
            calls.append(1)
            return real(*args, **more)

        monkeypatch.setattr(slurm_client, "submit", submit)

    folder = run(lose)
    waiting = [job for job, state in slurm.states.items() if state == "PENDING"]
    assert waiting == ["3"]
    assert ended(folder)["action"] == "continue"
    told = [event["job"] for event in read_jobs(folder) if event["event"] == "submitted"]
    assert told == ["2", "3"]
    assert not gave_up(folder)


def test_the_end_is_noted_before_a_long_silence_and_what_it_would_leave_behind(
    slurm: Slurm, run: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "_SECONDS", -1.0)
    seen: list[str] = []
    folder = runs_root() / "r"
    real = slurm.requeue

    def requeue(job: str) -> None:
        seen.append(ended(folder)["action"] + ": " + gave_up(folder))
        slurm.silent = 1
        real(job)

    monkeypatch.setattr(slurm_client, "requeue", requeue)
    run(how="requeue")
    assert seen == [
        "continue: it stopped at the job's time limit, and SLURM did not answer when it was to continue"
    ]
    assert gave_up(folder).endswith("did not answer when it was to continue: no answer in 20 s")


def test_a_start_waits_for_a_silent_controller(slurm: Slurm, run: Live) -> None:
    folder = runs_root() / "r"
    folder.mkdir(parents=True)
    note_job(folder, "started", "9", restart=0, step=0)
    slurm.silent = 3
    run()
    assert [(event["event"], event["job"]) for event in read_jobs(folder)][:3] == [
        ("started", "9"),
        ("ended", "9"),
        ("started", "1"),
    ]


def test_a_start_that_gets_no_answer_at_all_says_so(
    slurm: Slurm, run: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "_SECONDS", -1.0)
    slurm.silent = 9
    with pytest.raises(SlurmSilentError):
        run()
    folder = runs_root() / "r"
    assert [event["event"] for event in read_jobs(folder)] == ["not started"]
    assert gave_up(folder) == "SLURM's controller did not answer when the job started"


CARD = "r: job 1, start 1, on node n2\nerror: node n2: it shows 0 GPUs\n  and no driver\nhint: ask for less\n"


@pytest.mark.parametrize("text", [CARD, "Traceback\nValueError: no\n"])
def test_what_a_node_said_that_could_not_begin_is_told(
    slurm: Slurm, run: Live, capfd: pytest.CaptureFixture[str], text: str
) -> None:
    def fail(folder: Path) -> None:
        (folder / "outcome.json").unlink()
        (folder / "checkpoints/step_00000007").rmdir()
        (folder / "checkpoints").rmdir()
        logs = folder / "slurm/job-1.0"
        logs.mkdir()
        (logs / "node-0.log").write_text("error: node 1 is gone\n")
        os.utime(logs / "node-0.log", (9, 9))
        (logs / "node-1.log").write_text(text)
        os.utime(logs / "node-1.log", (5, 5))
        (folder / "request.taken.json").unlink()

    folder = run(fail, status=3)
    outcome = json.loads((folder / "outcome.json").read_text())
    said = capfd.readouterr().err
    assert "gained no" in outcome["gave_up"] or "without having gained" in outcome["gave_up"]
    if text == CARD:
        message, hint = "node n2: it shows 0 GPUs\nand no driver", "ask for less"
        assert outcome["error"] == {"kind": "MachineError", "message": message, "hint": hint}
        assert outcome["exit_code"] == 3
        assert "job-1.0/node-1.log ends with" in said
        assert "error: node n2: it shows 0 GPUs" in said
    else:
        assert outcome["error"]["message"] == "node 1 is gone"


def test_a_full_disk_keeps_no_run_from_going_on(
    slurm: Slurm, run: Live, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fill(_: Path) -> None:
        def full(*_: Any, **__: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        for module, name in (
            (batch_supervisor, "note_job"),
            (batch_supervisor, "write_json"),
            (chained_job, "note_job"),
        ):
            monkeypatch.setattr(module, name, full)

    run(fill, how="requeue")
    assert slurm.requeued == 1
    assert "No space left" in capfd.readouterr().err

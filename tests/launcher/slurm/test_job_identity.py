"""Whose a job is: a number comes again with another cluster, and a run folder may be moved, copied or linked to."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lockstep.launcher.runs.run_folder import runs_root
from lockstep.launcher.runs.run_status import read_status
from lockstep.launcher.runs.slurm_status import QueueSnapshot, live_jobs, merge_job_status
from lockstep.launcher.slurm.current_job import details_of, is_active
from lockstep.launcher.slurm.job_identity import is_job_of_run
from lockstep.launcher.slurm.job_log import note_job
from lockstep.launcher.slurm.pending_submissions import PendingSubmission
from lockstep.launcher.slurm.slurm_client import JobAccounting, QueuedJob


def submitted(name: str, job: str = "1") -> Path:
    """As ``launch submit`` left it before the job log told of working folders."""
    folder = runs_root() / name
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps({"sbatch": [f"--job-name={name}", f"--chdir={folder}"]}))
    note_job(folder, "submitted", job)
    return folder


def job(workdir: Path | str, state: str = "RUNNING", number: str = "1") -> QueuedJob:
    return QueuedJob(
        number, state, "None", "n1", "3:20:00", "2026-11-24T12:00:00", 0, "x", "low", str(workdir)
    )


def test_a_job_that_has_only_its_number_from_the_run_is_forgotten() -> None:
    mine, other = submitted("mine"), submitted("other")
    answer = QueueSnapshot({"1": job(other)})
    assert live_jobs(mine, answer) == []
    assert live_jobs(other, answer) == [answer.jobs["1"]]
    found = merge_job_status(read_status(mine), answer)
    assert (found.status, found.slurm["state"]) == ("failed", None)
    assert found.slurm["disagreement"] == "SLURM: no job 1 any more; the run wrote no outcome"
    assert merge_job_status(read_status(other), answer).status == "running"


def test_accounts_of_another_s_job_say_nothing_of_the_run() -> None:
    mine, other = submitted("mine"), submitted("other")
    answer = QueueSnapshot(accounts={"1": JobAccounting("TIMEOUT", str(other))})
    assert merge_job_status(read_status(mine), answer).slurm["state"] is None
    assert merge_job_status(read_status(other), answer).slurm["state"] == "TIMEOUT"


def test_a_folder_that_was_moved_or_is_reached_by_a_link_keeps_its_jobs(tmp_path: Path) -> None:
    old = submitted("a")
    link = tmp_path / "link"
    link.symlink_to(old.parent)
    assert is_job_of_run(link / "a", "1", str(old))
    assert is_job_of_run(old, "1", str(link / "a"))
    new = old.rename(tmp_path / "moved")
    assert is_job_of_run(new, "1", str(old))
    assert not is_job_of_run(new, "1", str(old.with_name("b")))


def test_a_copy_has_no_part_in_the_jobs_of_the_run_nor_has_one_whose_name_was_given_away() -> None:
    run = submitted("a")
    copy = Path(shutil.copytree(run, run.with_name("copy")))
    assert not is_job_of_run(copy, "1", str(run))
    assert is_job_of_run(copy, "2", str(copy))
    assert is_job_of_run(run, "1", str(run))
    old = run.rename(run.with_name("old"))
    new = submitted("a", "2")
    assert not is_job_of_run(old, "2", str(new))


@pytest.mark.parametrize("noted", ["noted", ""])
def test_a_task_of_an_array_works_in_the_folder_of_its_sweep(noted: str) -> None:
    point, sweep = submitted("s-2-007", "5_7"), runs_root() / "s-2"
    if noted:
        PendingSubmission(point, "s-2", sweep, 7).record_sending()
    assert is_job_of_run(point, "5_7", str(sweep))
    assert is_job_of_run(point, "9", str(point)), "it goes on as a job of its own"
    assert not is_job_of_run(point, "5_7", str(runs_root() / "s"))
    moved = point.rename(runs_root().parent / "elsewhere-007")
    assert is_job_of_run(moved, "5_7", str(sweep))


def test_a_damaged_description_leaves_the_run_s_own_folder_and_silence_leaves_the_number() -> None:
    run = submitted("a")
    for text in ("{", "[]", '{"sbatch": 5}', '{"sbatch": [5]}'):
        (run / "job.json").write_text(text)
        assert (is_job_of_run(run, "1", str(run)), is_job_of_run(run, "1", "/b")) == (True, False)
    (run / "job.json").unlink()
    assert is_job_of_run(run, "1", "")
    assert is_job_of_run(run, "1", "(null)")


def test_scontrol_is_believed_of_the_run_s_own_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from lockstep.launcher.slurm import slurm_client

    run = submitted("a")
    odd = submitted("b Key=c")
    told = {"JobState": "RUNNING", "WorkDir": str(run)}
    monkeypatch.setattr(slurm_client, "details", lambda _: told)
    assert (details_of(run, "1"), is_active("1", run)) == (told, True)
    assert (details_of(odd, "1"), is_active("1", odd)) == (None, False)
    assert is_active("1"), "a launcher may hold a run in a job that was not submitted for it"
    told["WorkDir"] = str(odd).removesuffix(" Key=c")
    assert is_active("1", odd), "scontrol writes no mark between a path and the next key"


@pytest.mark.parametrize(
    ("state", "active"),
    [
        ("RUNNING", True),
        ("CONFIGURING", True),
        ("COMPLETING", True),
        ("SUSPENDED", True),
        ("STOPPED", True),
        ("PENDING", False),
        ("COMPLETED", False),
        ("CANCELLED by 0", False),
        ("", False),
    ],
)
def test_a_job_is_active_while_it_may_have_processes(
    monkeypatch: pytest.MonkeyPatch, state: str, *, active: bool
) -> None:
    from lockstep.launcher.slurm import slurm_client

    monkeypatch.setattr(slurm_client, "details", lambda _: {"JobState": state} if state else None)
    assert is_active("1") is active

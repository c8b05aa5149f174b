"""SLURM's tools through ``slurm_client``, against a real SLURM."""

from __future__ import annotations

import time

import pytest

from lockstep.launcher.sandbox import start as sandbox
from lockstep.launcher.slurm import slurm_client
from lockstep.launcher.slurm.slurm_client import SlurmError
from tests.helpers.slurm.cluster import Cluster, wait_until

SLEEP = "#!/bin/bash\nexec sleep 600\n"


def test_a_job_from_submission_to_its_end(slurm: Cluster) -> None:
    name = "a|b\nc JobState=X UserId=y"
    before = time.time()
    job = slurm_client.submit(["--time=10", "-N2", f"--job-name={name}", f"--chdir={slurm.work}"], SLEEP)
    slurm.wait_for(str(job), "RUNNING")
    found = slurm_client.jobs([job, job + 999])
    assert found.keys() == {str(job)}
    assert (found[str(job)].state, found[str(job)].nodes, found[str(job)].name) == ("RUNNING", "n[1-2]", name)
    assert (found[str(job)].partition, found[str(job)].restarts) == ("low", 0)
    details = slurm_client.details(str(job))
    assert details is not None
    assert (details["JobState"], details["JobName"], details["NodeList"]) == ("RUNNING", name, "n[1-2]")
    end = slurm_client.end_time(str(job))
    assert end is not None
    assert before + 599 <= end <= time.time() + 601
    slurm_client.cancel(str(job))
    assert slurm.wait_for(str(job)) == "CANCELLED"
    slurm_client.cancel(str(job))
    with pytest.raises(SlurmError):
        slurm_client.cancel(str(job), signal="USR1")


def test_an_array_has_one_job_for_each_task(slurm: Cluster) -> None:
    job = slurm_client.submit(["--array=1-3%1", f"--chdir={slurm.work}"], SLEEP)
    slurm.wait_for(f"{job}_1", "RUNNING")
    found = slurm_client.jobs([job])
    assert found.keys() == {f"{job}_{task}" for task in (1, 2, 3)}
    assert [found[f"{job}_{task}"].state for task in (1, 2, 3)] == ["RUNNING", "PENDING", "PENDING"]
    assert slurm_client.end_time(f"{job}_2") is None
    slurm_client.cancel(f"{job}_3")
    wait_until(lambda: f"{job}_3" not in slurm_client.jobs([job]), "task 3, which never ran, is gone")
    assert slurm_client.jobs([job])[f"{job}_1"].state == "RUNNING"


def test_a_requeued_job_starts_again(slurm: Cluster) -> None:
    script = "#!/bin/bash\necho attempt ${SLURM_RESTART_COUNT:-0}\nexec sleep 600\n"
    job = slurm_client.submit(["--open-mode=append", f"--output={slurm.work}/%j.log", "--requeue"], script)
    slurm.wait_for_log(str(job), "attempt 0")
    slurm_client.requeue(str(job))
    slurm.wait_for(str(job), "PENDING")
    slurm.start_now(str(job))
    slurm.wait_for_log(str(job), "attempt 1")
    assert slurm_client.jobs([job])[str(job)].restarts == 1
    with pytest.raises(SlurmError, match="Invalid job id"):
        slurm_client.requeue("999999")


def test_what_would_become_of_a_job(slurm: Cluster) -> None:
    before = slurm_client.all_jobs().keys()
    words = slurm_client.try_submit(["-N2", "--gpus-per-node=2"], SLEEP)
    assert words.startswith("to start at ")
    assert "on nodes n[1-2] in partition low" in words
    assert (
        slurm_client.all_jobs().keys() <= before
    )  # it is not submitted, and others may be forgotten meanwhile
    for options, reason in ((["-p", "no"], "nvalid partition"), (["-N3"], "configuration is not available")):
        with pytest.raises(SlurmError, match=reason):
            slurm_client.try_submit(options, SLEEP)


def test_partitions_configuration_and_no_accounts(slurm: Cluster) -> None:
    assert slurm_client.partition(None)["PartitionName"] == "low"
    assert {name: slurm_client.partition(name)["PreemptMode"] for name in ("low", "cancel")} == {
        "low": "REQUEUE",
        "cancel": "CANCEL",
    }
    with pytest.raises(SlurmError, match="no partition nope") as error:
        slurm_client.partition("nope")
    assert "low, high, cancel" in error.value.hint
    config = slurm_client.config()
    assert (config["KillWait"], config["PreemptMode"], config["RequeueExit"]) == (
        "5 sec",
        "REQUEUE",
        "(null)",
    )
    assert config["ClusterName"] == "sandbox"
    assert slurm_client.accounting([1]) is None


@pytest.mark.exhaustive
def test_a_controller_that_is_gone_is_no_answer(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    text = slurm.conf.read_text().replace("SlurmctldPort=", "SlurmctldPort=1  #")
    (slurm.work / "gone.conf").write_text(text)
    monkeypatch.setenv("SLURM_CONF", str(slurm.work / "gone.conf"))
    monkeypatch.setattr(slurm_client, "_PATIENCE_SECONDS", 3.0)
    with pytest.raises(SlurmError, match=r"Unable to contact|no answer in"):
        slurm_client.jobs([1])


def test_a_running_sandbox_is_used_where_nothing_else_is_said(
    slurm: Cluster, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SLURM_CONF")
    monkeypatch.setenv("LOCKSTEP_SLURM_SANDBOX", str(slurm.folder))
    assert slurm_client.environment()["SLURM_CONF"] == str(slurm.conf)
    assert slurm_client.environment()["SLURM_CONF"] == str(slurm.conf)
    assert capsys.readouterr().err.count("note:") == 1
    assert sandbox.node_states(slurm.folder).keys() == {"n1", "n2"}

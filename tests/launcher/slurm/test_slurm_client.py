"""What SLURM's tools answer, odd answers included; the tools here are scripts, the real ones run in ``tests/slurm``."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from lockstep.data.common.errors import MachineError
from lockstep.launcher.slurm import slurm_client, tool_call
from lockstep.launcher.slurm.slurm_client import QueuedJob, SlurmError

LINE = (
    "{id}",
    "RUNNING",
    "None",
    "n[1-2]",
    "1-00:00:00",
    "2026-11-24T09:16:25",
    "2",
    "low",
    "{name}",
    "/w d",
)


def queue(**jobs: str) -> str:
    """What squeue prints: padded fields, and a name that may hold anything."""
    lines = [
        "\x1f".join(LINE).format(id=number.strip("j").ljust(64), name=name) for number, name in jobs.items()
    ]
    return "".join(line + "\x1e\n" for line in lines)


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``tool("squeue", "echo hello")``: what a command is from now on."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return make


def test_a_queue_with_odd_names() -> None:
    found = slurm_client.parse_queue(
        "CLUSTER: one\n" + queue(j12="a|b\nc  UserId=x", j13_4="", j14="\u00e9" * 90)
    )
    assert found["12"] == QueuedJob(
        "12",
        "RUNNING",
        "None",
        "n[1-2]",
        "1-00:00:00",
        "2026-11-24T09:16:25",
        2,
        "a|b\nc  UserId=x",
        "low",
        "/w d",
    )
    assert (found["13_4"].name, found["14"].name) == ("", "\u00e9" * 90)
    assert slurm_client.parse_queue("") == {}


def test_a_name_cannot_make_up_a_job_s_record() -> None:
    record = slurm_client.parse_record(
        "JobId=12 ArrayJobId=12 ArrayTaskId=3 JobName=x JobState=DONE UserId=no y UserId=me(5) GroupId=me(5)"
        " JobState=RUNNING Reason=None CPUs/Task=1 ReqB:S:C:T=0:0:*:* Comment=JobState=FAILED Restarts=9"
        " WorkDir=/a b/c\n"
    )
    assert record["JobName"] == "x JobState=DONE UserId=no y"
    assert (record["JobState"], record["UserId"]) == ("RUNNING", "me(5)")
    assert (record["CPUs/Task"], record["ReqB:S:C:T"], record["WorkDir"]) == ("1", "0:0:*:*", "/a b/c")


def test_times_that_are_none() -> None:
    assert slurm_client.parse_time("2026-01-01T00:00:10") == 1767225610.0
    for text in ("N/A", "NONE", "Unknown", "UNLIMITED", "INVALID", ""):
        assert slurm_client.parse_time(text) is None


@pytest.mark.parametrize("printed", ["12", "12;cluster", "Welcome to Foo\n12;foo\n", "12 "])
def test_the_number_of_a_submitted_job(tool, printed: str) -> None:
    tool("sbatch", f"cat > /dev/null; printf '%s' '{printed}'")
    assert slurm_client.submit(["--nodes=2"], "#!/bin/bash\ntrue\n") == 12


def test_no_number_is_an_error_that_says_look_first(tool) -> None:
    tool("sbatch", "cat > /dev/null; echo submitted your job")
    with pytest.raises(SlurmError, match="submitted your job") as error:
        slurm_client.submit([], "")
    assert "squeue" in error.value.hint


def test_a_refusal_says_what_was_run_what_it_said_and_what_to_do(tool) -> None:
    tool("sbatch", "echo 'sbatch: error: invalid partition specified: nope' >&2; exit 1")
    for call in (slurm_client.submit, slurm_client.try_submit):
        with pytest.raises(SlurmError, match=r"sbatch .*--partition=nope\n.*invalid partition") as error:
            call(["--partition=nope"], "#!/bin/bash\n")
        assert "sinfo" in error.value.hint
        assert (error.value.exit_status, isinstance(error.value, MachineError)) == (3, True)


def test_what_hangs_is_ended_with_all_that_it_started(tool, tmp_path: Path) -> None:
    tool("squeue", f"sleep 600 & echo $! > {tmp_path}/child; wait")
    environment = dict(os.environ)
    with pytest.raises(SlurmError, match="no answer in 2 s"):
        tool_call.run_tool(["squeue", "-h"], None, environment, 2.0)
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 20  # SIGKILL is sent, and takes effect when the kernel comes to it
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _lives(child)


NO_CONF = "error: s_p_parse_file: cannot stat file /x: No such file or directory, retrying in 1sec"


def test_what_a_tool_said_before_it_fell_silent_is_told(tool) -> None:
    tool("scontrol", f"echo some; echo '{NO_CONF}' >&2; exec sleep 600")
    with pytest.raises(SlurmError) as error:
        tool_call.run_tool(["scontrol", "-h"], None, dict(os.environ), 5.0)
    assert error.value.message == f"scontrol -h\nno answer in 5 s\n{NO_CONF}\nsome"
    assert "set SLURM_CONF" in error.value.hint


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("sbatch", NO_CONF, "set SLURM_CONF"),
        ("sbatch", "Unable to contact slurm controller", "may have been submitted all the same"),
        ("squeue", "Unable to contact slurm controller", "scontrol ping"),
        ("squeue", "", "scontrol ping"),
    ],
)
def test_what_to_do_about_silence(name: str, said: str, hint: str) -> None:
    assert hint in tool_call._silent([name], 1.0, said).hint


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_not_known_and_not_answered_are_not_the_same(tool) -> None:
    tool("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    tool("scontrol", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert (slurm_client.jobs([7]), slurm_client.details("7"), slurm_client.end_time("7")) == ({}, None, None)
    with pytest.raises(SlurmError, match="Invalid job id"):
        slurm_client.jobs([7, 8])  # not: there is none of them
    assert slurm_client.jobs([]) == {}
    for name in ("squeue", "scontrol"):
        tool(name, "echo 'Unable to contact slurm controller (connect failure)' >&2; exit 1")
    for call in (
        lambda: slurm_client.jobs([7]),
        lambda: slurm_client.details("7"),
        lambda: slurm_client.end_time("7"),
    ):
        with pytest.raises(SlurmError, match="Unable to contact") as error:
            call()
        assert "scontrol ping" in error.value.hint


def test_a_number_that_is_none_hides_no_other(tool) -> None:
    script = """
for word; do
    case $word in *None*|*x*|0,*|*,0,*|*4294967295*) echo "error: Invalid job id: $word" >&2; exit 1;; esac
done
"""
    tool("squeue", script + f"printf '%s' '{queue(j7='a')}'")
    tool("sacct", script + "echo '8|COMPLETED|/a'")
    ids = [None, "None", 0, "0", "x", "", 4294967295, "7;8", 7, "8_"]
    assert slurm_client.jobs(ids).keys() == {"7"}
    assert (slurm_client.accounting([*ids, 8]) or {}).keys() == {"8"}
    assert slurm_client.jobs(["None"]) == {}


def test_accounts_there_are_none_and_they_cannot_be_asked(tool, tmp_path: Path) -> None:
    tool("sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert slurm_client.accounting([1]) is None
    tool("sacct", "printf '12_3|CANCELLED by 0|/a|b\\n13|COMPLETED|\\n14||/c\\n'")
    assert slurm_client.accounting([12, 13]) == {"12_3": ("CANCELLED", "/a|b"), "13": ("COMPLETED", "")}
    tool("sacct", "echo 'sacct: error: Problem talking to the database: Connection refused' >&2; exit 1")
    with pytest.raises(SlurmError, match="Connection refused"):
        slurm_client.accounting([1])


def test_nothing_of_slurm_is_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not slurm_client.has_slurm()
    assert slurm_client.accounting([1]) is None
    with pytest.raises(SlurmError, match="squeue: No such file"):
        slurm_client.jobs([1])


def test_a_job_that_is_over_is_cancelled_already_but_takes_no_signal(tool) -> None:
    tool("scancel", "echo 'scancel: error: Kill job error on job id 7: Invalid job id specified' >&2; exit 1")
    slurm_client.cancel("7")
    with pytest.raises(SlurmError, match="USR1"):
        slurm_client.cancel("7", signal="USR1", batch=True)
    tool("scancel", "echo 'scancel: error: Kill job error on job id 7: Access/permission denied' >&2; exit 1")
    with pytest.raises(SlurmError, match="denied"):
        slurm_client.cancel("7")


def test_the_environment_has_nothing_of_another_job(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = "SLURM_JOB_ID SLURM_CPU_BIND SLURMD_NODENAME SBATCH_PARTITION SRUN_CPUS_PER_TASK SALLOC_ACCOUNT"
    foreign += " SQUEUE_FORMAT SCONTROL_ALL SACCT_FORMAT SINFO_FORMAT SCANCEL_USER PMI_RANK PMI2_X PMIX_RANK"
    for name in foreign.split():
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SLURM_CONF", "/here")
    monkeypatch.setenv("SLURM_JWT", "token")
    clean = slurm_client.environment()
    assert set(foreign.split()) & clean.keys() == set()
    assert (clean["SLURM_CONF"], clean["SLURM_JWT"], clean["PATH"]) == ("/here", "token", os.environ["PATH"])
    monkeypatch.delenv("SLURM_CONF")
    assert "SLURM_CONF" not in slurm_client.environment()


@pytest.mark.parametrize(
    ("said", "silent"),
    [
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", True),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", True),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying", True),
        ("slurm_load_jobs error: Zero Bytes were transmitted or received", True),
        ("sbatch: error: Batch job submission failed: Requested node configuration is not available", False),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination",
            False,
        ),
        ("Requested operation is presently disabled for job 5", False),
        ("slurm_suspend error: Access/permission denied", False),
    ],
)
def test_silence_is_told_from_a_refusal(said: str, *, silent: bool) -> None:
    error = tool_call.ToolResult(("scontrol",), 1, "", said).error()
    assert isinstance(error, tool_call.SlurmSilentError) is silent


def test_a_tool_that_does_not_end_is_silent(tool) -> None:
    tool("scontrol", "exec sleep 60")
    with pytest.raises(tool_call.SlurmSilentError, match="no answer in"):
        tool_call.run_tool(["scontrol"], None, dict(os.environ), 0.2)

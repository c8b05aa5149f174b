"""SLURM's own tools, the only place that runs them: argument lists, time limits, answers with types.

Parsed formats are those of SLURM 22.05 (Debian 12); every one is an option that older and newer versions have too.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from ..console import print_messages
from ..worlds import tool_environment
from .exported_environment import for_the_job
from .job_log import is_job
from .node_resources import FORM, ClusterNode, parse_nodes
from .sandbox_registry import running_sandbox
from .tool_call import SlurmError, ToolResult, run_tool

_PATIENCE_SECONDS = 20.0
_SUBMIT_SECONDS = 60.0  # sbatch itself tries again where the controller is busy
_UNKNOWN = "Invalid job id"
_RECORD, _FIELD = "\x1e", "\x1f"  # in no name that a person types; a name may hold spaces, bars and new lines
_COLUMNS = {
    "JobArrayID": 64,
    "State": 32,
    "Reason": 64,
    "NodeList": 1024,
    "TimeLeft": 32,
    "StartTime": 32,
    "RestartCnt": 16,
    "Partition": 128,
    "Name": 256,
    "WorkDir": 4096,
}
_announced: set[str] = set()


@dataclass(frozen=True)
class QueuedJob:
    """One line of the queue, as SLURM words it."""

    id: str
    """``12``, or ``12_3`` for task 3 of an array."""
    state: str
    """``PENDING``, ``RUNNING``, ``COMPLETING``, …; a job stays in the queue for some minutes after its end."""
    reason: str
    nodes: str
    """``n[1-2]``; empty while the job waits."""
    time_left: str
    """``1-02:30:00``, ``UNLIMITED`` or ``INVALID``."""
    start: str
    """When it started or is expected to, in local time; ``N/A`` while that is unknown."""
    restarts: int
    """How often it was requeued."""
    name: str
    partition: str = ""
    workdir: str = ""
    """Its working folder; empty where SLURM does not say."""


class JobAccounting(NamedTuple):
    """The record that SLURM keeps of a job after it has left the queue."""

    state: str
    workdir: str


def environment() -> dict[str, str]:
    """Return this process's environment without what another job, or the user's profile, tells SLURM's tools.

    A running sandbox of ``launch slurm-sandbox`` is used where SLURM_CONF is not set; a note says so once.
    """
    clean = tool_environment(os.environ)
    if not clean.get("SLURM_CONF"):
        clean.pop("SLURM_CONF", None)
        sandbox = running_sandbox()
        if sandbox is not None:
            clean["SLURM_CONF"] = str(sandbox.conf)
            _announce(str(sandbox.folder))
    return clean


def _announce(folder: str) -> None:
    if folder not in _announced:
        _announced.add(folder)
        print_messages([f"note: SLURM is the sandbox in {folder}, which `launch slurm-sandbox up` started"])


def has_slurm() -> bool:
    """Check whether jobs can be submitted from this machine at all."""
    return shutil.which("sbatch") is not None


def submit(options: Sequence[str], script: str = "", extra_variables: Iterable[str] = ()) -> int:
    """Submit a batch script, which reaches sbatch on its standard input.

    Of the environment, which SLURM stores with the job, sbatch sees only what ``for_the_job`` lets pass.

    Args:
        options: of sbatch; behind them may stand a script's path and its arguments, in place of ``script``.
        script: the batch script.
        extra_variables: names of further variables that travel with the job.

    Returns:
        The job's number.

    Raises:
        SlurmError: SLURM refused it, or did not answer; in the latter case the job may be there.
    """
    answer = _run(
        ["sbatch", "--parsable", *options], script, _travelling(extra_variables), timeout=_SUBMIT_SECONDS
    )
    numbers = re.findall(r"^(\d+)(?:;\S*)?\s*$", answer.out, re.MULTILINE)  # a site's plugin may print, too
    if answer.status or not numbers:
        raise answer.error("" if answer.status else "look at `squeue --me` before you submit it again")
    return int(numbers[-1])


def try_submit(options: Sequence[str], script: str = "", extra_variables: Iterable[str] = ()) -> str:
    """Ask SLURM what it would do with this job, without submitting it; the arguments are those of ``submit``.

    Returns:
        ``to start at 2026-01-31T12:00:00 using 2 processors on nodes n[1-2] in partition low``.

    Raises:
        SlurmError: it would be refused; with sbatch's own reason.
    """
    answer = _run(
        ["sbatch", "--test-only", *options], script, _travelling(extra_variables), timeout=_SUBMIT_SECONDS
    )
    if answer.status:
        raise answer.error()
    said = re.search(r"Job \d+ (to start .*)", answer.err + answer.out)
    return said.group(1).strip() if said else answer.said


def jobs(ids: Iterable[int | str], timeout: float = _PATIENCE_SECONDS) -> dict[str, QueuedJob]:
    """Query the queue once for these jobs; one that it does not know is left out.

    Args:
        ids: theirs; ``12_3`` for a task of an array. What is none is passed over.
        timeout: seconds after which the queue counts as one that does not answer.

    Raises:
        SlurmError: the queue could not be asked: nothing is known of any of them.
    """
    wanted = [str(number) for number in ids if is_job(number)]
    return _queue(["--jobs", ",".join(wanted)], timeout, alone=len(wanted) == 1) if wanted else {}


def all_jobs() -> dict[str, QueuedJob]:
    """Return every job in the queue, as ``jobs`` does."""
    return _queue([])


def _queue(
    chosen: list[str], timeout: float = _PATIENCE_SECONDS, *, alone: bool = False
) -> dict[str, QueuedJob]:
    """Run squeue, which for a single unknown job (``alone``) answers with an error."""
    last = next(reversed(_COLUMNS))
    form = ",".join(f"{name}:{size}{_RECORD if name == last else _FIELD}" for name, size in _COLUMNS.items())
    answer = _run(
        ["squeue", "--noheader", "--array", "--states=all", *chosen, "--Format", form], timeout=timeout
    )
    if answer.status and alone and _UNKNOWN in answer.err:
        return {}
    return parse_queue(answer.raise_for_status().out)


def folders(names: Iterable[str], timeout: float = _PATIENCE_SECONDS) -> dict[str, str]:
    """Return the working folder of every job that has one of these names, by the job's id.

    Args:
        names: of jobs.
        timeout: seconds after which the queue counts as one that does not answer.

    Raises:
        SlurmError: the queue could not be asked.
    """
    found = _queue(["--name", ",".join(names)], timeout)
    return {number: job.workdir for number, job in found.items()}


def parse_queue(text: str) -> dict[str, QueuedJob]:
    """Parse squeue's records into jobs by their ids."""
    found = {}
    for record in text.split(_RECORD):
        fields = [field.strip() for field in record.split(_FIELD)]
        if len(fields) == len(_COLUMNS):
            number, state, reason, nodes, left, start, restarts, partition, name, workdir = fields
            count = int(restarts) if restarts.isdigit() else 0
            number = number.rpartition("\n")[2]  # a heading, as for several clusters, ends before it
            found[number] = QueuedJob(
                number, state, reason, nodes, left, start, count, name, partition, workdir
            )
    return found


def details(job: str) -> dict[str, str] | None:
    """Return everything that SLURM knows of a job, under scontrol's keys; None if it has forgotten the job.

    Of an array without a task's number it is the first record.

    Raises:
        SlurmError: SLURM could not be asked.
    """
    answer = _run(["scontrol", "-o", "show", "job", job])
    if answer.status and _UNKNOWN in answer.said:
        return None
    first = re.split(r"\n(?=JobId=)", answer.raise_for_status().out.strip())[0]
    return parse_record(first) or None


def parse_record(text: str) -> dict[str, str]:
    """Parse ``Key=value Key=value`` on one line, where a job's name may hold anything, even spaces and ``Key=``."""
    found = {}
    name = re.search(r"\sJobName=(.*?)\sUserId=[^\s=]+\(\d+\)\s", text, re.DOTALL)
    if name is not None:
        found["JobName"] = name.group(1)
        text = text[: name.start()] + " " + text[name.end(1) :].lstrip()
    for key, value in re.findall(
        r"(?:^|(?<=\s))([A-Z][\w/:.]*)=(.*?)(?=\s[A-Z][\w/:.]*=|\Z)", text, re.DOTALL
    ):
        found.setdefault(key, value.strip())  # free text, in which a key may be made up, comes late
    return found


def partition(name: str | None) -> dict[str, str]:
    """Return a partition under scontrol's keys: PreemptMode, MaxTime, Nodes and so on.

    Args:
        name: which one; None for the default one.

    Raises:
        SlurmError: there is no such partition, or SLURM could not be asked.
    """
    every = partitions()
    for found in every:
        if found.get("PartitionName") == name or (name is None and found.get("Default") == "YES"):
            return found
    known = ", ".join(found["PartitionName"] for found in every) or "none"
    what = "this cluster has no default partition" if name is None else f"there is no partition {name}"
    raise SlurmError(what, f"name one of them with --partition: {known}")


def partitions() -> list[dict[str, str]]:
    """Return every partition, each as ``partition`` does.

    Raises:
        SlurmError: SLURM could not be asked.
    """
    answer = _run(["scontrol", "-o", "show", "partition"]).raise_for_status()
    return [parse_record(line) for line in answer.out.splitlines() if line.startswith("PartitionName=")]


def nodes(*names: str) -> list[ClusterNode]:
    """Return every node of these partitions.

    Raises:
        SlurmError: SLURM could not be asked.
    """
    answer = _run(["sinfo", "-h", "-N", "-p", ",".join(names), "-o", FORM]).raise_for_status()
    return parse_nodes(answer.out)


def config() -> dict[str, str]:
    """Return SLURM's configuration under scontrol's keys: KillWait, PreemptMode, RequeueExit and so on.

    Raises:
        SlurmError: SLURM could not be asked.
    """
    answer = _run(["scontrol", "show", "config"]).raise_for_status()
    return dict(re.findall(r"^(\w\S*)\s+=[ \t]*(.*?)[ \t]*$", answer.out, re.MULTILINE))


def accounting(ids: Iterable[int | str]) -> dict[str, JobAccounting] | None:
    """Return how jobs ended, even those that the queue has forgotten, by id; None if SLURM keeps no accounting.

    Raises:
        SlurmError: there are accounts, but they could not be asked.
    """
    wanted = ",".join(str(number) for number in ids if is_job(number))
    if shutil.which("sacct") is None:
        return None
    if not wanted:
        return {}
    answer = _run(["sacct", "-n", "-P", "-X", "-o", "JobID,State,WorkDir", "-j", wanted])
    if answer.status and re.search(
        "accounting storage is disabled|not running a slurmdbd", answer.said, re.IGNORECASE
    ):
        return None
    lines = [line.split("|", 2) for line in answer.raise_for_status().out.splitlines() if line.count("|") > 1]
    return {job: JobAccounting(state.split()[0], workdir) for job, state, workdir in lines if state.split()}


def cancel(*jobs: str, signal: str | None = None, batch: bool = False) -> None:
    """End jobs; one that is over already is none the worse.

    Args:
        jobs: their numbers, with ``_3`` for a task of an array.
        signal: ``USR1``: send this to its steps, and leave it running.
        batch: to the batch script alone, not to the steps.

    Raises:
        SlurmError: it could not be done; with a signal also where the job does not run.
    """
    chosen = [*(["--signal", signal] if signal else []), *(["--batch"] if batch else [])]
    answer = _run(["scancel", *chosen, *jobs])
    over = re.search(f"{_UNKNOWN}|already completing or completed", answer.said)
    if answer.status and (signal or not over):
        raise answer.error()


def requeue(job: str) -> None:
    """Put a job back into the queue; its processes are killed, which may be the caller.

    SLURM starts it again after two minutes (``AuthInfo=cred_expire``), and that must not be hastened: measured with
    22.05, a StartTime=now within a second of the old start's end makes a node refuse the new one's credential, and
    the job is not started but FAILED ("Killing non-startable batch job: Job credential revoked").

    Args:
        job: its number.

    Raises:
        SlurmError: SLURM refused, or could not be asked.
    """
    _run(["scontrol", "requeue", job]).raise_for_status()


def end_time(job: str) -> float | None:
    """Return when SLURM will end a job, in seconds since the epoch; None if it has no end or is unknown.

    Raises:
        SlurmError: SLURM could not be asked.
    """
    answer = _run(["squeue", "--noheader", "--jobs", job, "--format", "%e"], TZ="UTC0")
    if answer.status and _UNKNOWN in answer.err:
        return None
    return parse_time(answer.raise_for_status().out.strip().partition("\n")[0])


def parse_time(text: str) -> float | None:
    """Parse a UTC time of SLURM's into seconds since the epoch; None for ``N/A``, ``NONE`` and the like."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _travelling(extra_variables: Iterable[str]) -> dict[str, str]:
    known = environment()
    where = {"SLURM_CONF": known["SLURM_CONF"]} if "SLURM_CONF" in known else {}
    return for_the_job(known, extra_variables) | where


def _run(
    command: Sequence[str],
    given: str | None = None,
    whole: dict[str, str] | None = None,
    *,
    timeout: float = _PATIENCE_SECONDS,
    **extra: str,
) -> ToolResult:
    known = environment() if whole is None else whole
    return run_tool(command, given, {**known, **extra}, timeout)

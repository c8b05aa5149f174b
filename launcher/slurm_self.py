"""The SLURM job that this process is in: which start of it, what SLURM says of it, and what may be asked for it."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..data.errors import MachineError

_SECONDS = 30.0
_TRIES = 3
_TIME = "%Y-%m-%dT%H:%M:%S"
_KEPT = (
    "SLURM_CONF", "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_JOB_NAME", "SLURM_RESTART_COUNT", "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID", "SLURM_CLUSTER_NAME", "SLURM_WORKING_CLUSTER", "SLURM_JOB_PARTITION",
    "SLURM_JOB_ACCOUNT", "SLURM_SUBMIT_DIR", "SLURM_SUBMIT_HOST", "SLURM_TMPDIR", "SLURMD_NODENAME",
)  # fmt: skip
"""What says which job this is, and where; everything else would change what an inner srun or sbatch does."""
_OF_THE_STEP = ("SLURM_STEP_ID", "SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
"""What says how many cores this process has; read by ``cores.py``."""
_FOREIGN = re.compile(r"(SLURM|SRUN|SBATCH|SALLOC|SCANCEL|SQUEUE|SLURMD|PMI|PMIX|PMI2|OMPI|PALS|ALPS)_")
_RUNNING = (
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
    "STAGE_OUT",
    "RESIZING",
)


@dataclass(frozen=True)
class Start:
    """One start of a job: SLURM starts it again under the same number after a requeue."""

    job: str
    """``123``, or ``123_4`` of an array."""
    restart: int

    def __str__(self) -> str:
        return f"{self.job}.{self.restart}"


def this_start(environment: Mapping[str, str] = os.environ) -> Start | None:
    """The start of the job that this process belongs to; None outside one."""
    job = environment.get("SLURM_JOB_ID")
    if not job:
        return None
    if "SLURM_ARRAY_JOB_ID" in environment and "SLURM_ARRAY_TASK_ID" in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return Start(job, int(environment.get("SLURM_RESTART_COUNT") or 0))


def parse_start(text: str) -> Start | None:
    """What ``str`` of a start gave; None where it is none."""
    found = re.fullmatch(r"([0-9]+(?:_[0-9]+)?)\.([0-9]+)", text)
    return Start(found[1], int(found[2])) if found else None


def scrubbed(environment: Mapping[str, str], *, step: bool) -> dict[str, str]:
    """An environment without what a submitting shell, sbatch or srun left in it for some other job step.

    Args:
        environment: to take over.
        step: for the processes of a step, whose core counts stay; else for srun and sbatch, which get their
            whole environment on (``--export=NONE`` of the job would leave the step without PATH).
    """
    kept = (*_KEPT, *_OF_THE_STEP) if step else _KEPT
    rest = {name: value for name, value in environment.items() if name in kept or not _FOREIGN.match(name)}
    return rest if step else {**rest, "SLURM_EXPORT_ENV": "ALL"}


def job_details(job: str) -> dict[str, str] | None:
    """What ``scontrol show job`` says, by its own names; None where SLURM does not know the job.

    Raises:
        MachineError: SLURM does not answer.
    """
    output = _answer(["scontrol", "--oneliner", "show", "job", job], "Invalid job id")
    return None if output is None else _fields(output.splitlines()[0] if output else "")


def is_active(job: str) -> bool:
    """Whether SLURM still has processes of a job running, for all that it knows.

    Raises:
        MachineError: SLURM does not answer.
    """
    details = job_details(job)
    return details is not None and details.get("JobState", "").split("+")[0] in _RUNNING


def end_time(job: str) -> float | None:
    """When a job's time is up, in seconds since the epoch; None without a limit, or where SLURM does not answer."""
    with suppress(MachineError):
        details = job_details(job)
        if details and details.get("TimeLimit") != "UNLIMITED":
            return _seconds(details.get("EndTime", ""))
    return None


def kill_wait() -> float:
    """Seconds between SLURM's SIGTERM and its SIGKILL; SLURM's own default where it does not say."""
    with suppress(MachineError):
        found = re.search(
            r"^KillWait\s*=\s*([0-9]+)", _answer(["scontrol", "show", "config"]) or "", re.MULTILINE
        )
        if found:
            return float(found[1])
    return 30.0


def submit_again(options: Sequence[str], arguments: Sequence[str]) -> str:
    """Submit a job; its number.

    Raises:
        MachineError: SLURM refuses, with its own words.
    """
    output = _answer(["sbatch", "--parsable", *options, *arguments], tries=1) or ""
    return output.strip().partition(";")[0]


def cancel_job(job: str) -> None:
    """Take a job away, whether it waits or runs.

    Raises:
        MachineError: SLURM refuses or does not answer.
    """
    _answer(["scancel", job], "Invalid job id")


def requeue_job(job: str) -> None:
    """Put a job back into the queue. Asked for this very job, it ends this process before it returns.

    Raises:
        MachineError: SLURM refuses, as for a job submitted with --no-requeue.
    """
    _answer(["scontrol", "requeue", job], tries=1)


def _answer(command: list[str], unknown: str = "\0", tries: int = _TRIES) -> str | None:
    """What a client of SLURM says; None where it says that it knows nothing of what it was asked about."""
    said = ""
    for number in range(tries):
        if number:
            time.sleep(1)  # a controller that fails over is back within seconds
        try:
            environment = scrubbed(os.environ, step=False)
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
            continue
        if done.returncode == 0:
            return done.stdout
        said = done.stderr.strip()
        if unknown in said:
            return None
    raise MachineError(f"{' '.join(command[:3])}: {said}", "SLURM says no, or does not answer")


def _fields(line: str) -> dict[str, str]:
    """``Key=Value`` pairs; values may hold spaces and further ``=``."""
    found = re.findall(r"(?:^|\s)([A-Za-z][A-Za-z0-9/:_]*)=((?:(?!\s[A-Za-z][A-Za-z0-9/:_]*=).)*)", line)
    return dict(found)


def _seconds(text: str) -> float | None:
    with suppress(ValueError):
        return time.mktime(time.strptime(text, _TIME))
    return None

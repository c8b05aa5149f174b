"""``launch submit``: from what was asked for to a job in SLURM's queue, or to a card that says why not."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.errors import UsageError
from ..data.suggest import did_you_mean
from ..training.slurm_time import seconds_of
from ..training.spec import SlurmConfig
from . import slurm_client
from .clusters import command_line, find_profile
from .config import ResolvedConfig, to_yaml
from .console import put, put_json, say
from .job import write_job
from .job_log import note_job, slurm_folder
from .job_options import JobOptions, Layer, job_options
from .names import program_stem, safe_stem
from .runs import create_run
from .sbatch import How
from .slurm_tool import SlurmError
from .submission import SETUP, Submission, compose
from .submit_client import Cluster, ask_cluster, cpus_and_gpus, refusal, undisturbed
from .submit_view import listing_of
from .yaml_file import printable

_SECRET_ARGUMENT = re.compile(
    r"--?([\w-]*[-_])?(secret|password|passwd|(api|access|auth|hf|hub|bearer|private)[-_]?(key|token))(?=$|=)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class SubmitRequest:
    """What the command line asks for."""

    resolved: ResolvedConfig | None
    """Of a training; None for a program."""
    program: list[str] = field(default_factory=list)
    """``SCRIPT ARGS…`` or ``-m MODULE ARGS…``; empty for a training."""
    slurm: dict[str, Any] = field(default_factory=dict)
    """Keys of the ``slurm:`` section; None where nothing was said."""
    name: str | None = None
    cluster: str | None = None
    dry_run: bool = False
    json: bool = False


def submit(request: SubmitRequest) -> int:
    """Send a job, or with ``--dry-run`` show what would be sent; the exit status.

    Raises:
        UsageError: something that was asked for is wrong, or SLURM refuses the job.
        MachineError: SLURM does not answer.
    """
    _check_program(request.program)
    said = [_of_config(request.resolved), command_line(request.slurm)]
    find_profile(request.cluster, None)  # a mistake in it is found without SLURM, too
    cluster = ask_cluster()
    options = job_options([find_profile(request.cluster, cluster.name).layer, *said])
    _check_partitions(options, cluster)
    with _folder(request) as new:
        submission, notes = _compose(new.path, request, options, cluster)
        expected = _test(submission, options, cluster)
        if request.dry_run:
            _show(submission, request, expected, notes)
            return 0
        _fill(submission)
        job = _send(new, submission)
    _tell(submission, request, job, expected, notes)
    return 0


def _check_program(program: list[str]) -> None:
    """What would be found out only after hours in a queue.

    Raises:
        UsageError: there is no such script, or no module was named.
    """
    if program == ["-m"]:
        raise UsageError("-m: a module's name is missing", "launch submit [OPTIONS] -m MODULE [ARGS]")
    if program and not program[0].startswith("-m") and not Path(program[0]).exists():
        about = f"{printable(program[0])}: there is no such script"
        raise UsageError(about, "launch submit [OPTIONS] SCRIPT [ARGS]")


def _told(program: list[str]) -> list[str]:
    """Arguments that look like secrets: they lie in the run folder, and everybody on the node sees them."""
    names = dict.fromkeys(found[0] for argument in program[1:] if (found := _SECRET_ARGUMENT.match(argument)))
    return [
        f"{name}: a secret does not belong on a command line; let the program read a file" for name in names
    ]


def _of_config(resolved: ResolvedConfig | None) -> Layer:
    """The config's ``slurm:`` section; of a mapping the origin is that of its first entry."""
    if resolved is None:
        return Layer({}, {})
    section = resolved.config.slurm.model_dump(mode="json")
    places: dict[str, str] = {}
    for path, where in resolved.origins.items():
        if path.startswith("slurm."):
            places.setdefault(path.split(".")[1], f"config {where}")
    return Layer(section, places)


@dataclass
class _NewRun:
    path: Path
    is_kept: bool = False


@contextmanager
def _folder(request: SubmitRequest) -> Iterator[_NewRun]:
    """A new run's folder, gone again with its name free unless a job was sent that needs it."""
    stem = safe_stem(request.resolved.name) if request.resolved else program_stem(request.program)
    new = _NewRun(create_run(request.name, stem))
    try:
        yield new
    finally:
        if not new.is_kept:
            shutil.rmtree(new.path)


def _compose(
    folder: Path, request: SubmitRequest, options: JobOptions, cluster: Cluster
) -> tuple[Submission, list[str]]:
    how, requeue = continuation(options.slurm, cluster)
    cores, notes = _cores(options, cluster)
    submission = compose(
        folder,
        options,
        base=request.resolved.base if request.resolved else None,
        config=to_yaml(request.resolved) if request.resolved else "",
        program=request.program,
        cores=cores,
        how=how,
        requeue=requeue,
    )
    _check_setup(submission.setup)
    return submission, [*notes, *_too_long(options.slurm, cluster), *_told(request.program)]


def continuation(slurm: SlurmConfig, cluster: Cluster) -> tuple[How, bool]:
    """How a job goes on that was stopped before its end, and whether SLURM puts it back into the queue by itself.

    A chained job waits behind its predecessor from the start and begins seconds after it has ended, whatever ended
    it; a requeued one begins after two minutes. So ``auto`` chains, and leaves to SLURM only what SLURM does
    anyway: where a preempted job is requeued it keeps its number and its age in the queue, and the chained job,
    which waits for its end, goes on waiting. Where preemption cancels, the chain takes that over as well.
    """
    wanted = slurm.continuation or "auto"
    if wanted == "auto":
        requeues = cluster.preempts and any(
            "REQUEUE" in part.get("PreemptMode", "") for part in cluster.chosen(slurm.partition)
        )
        return "chain", requeues
    return wanted, wanted == "requeue"


def _cores(options: JobOptions, cluster: Cluster) -> tuple[int | None, list[str]]:
    """CPUs of each node, and what people should know about them.

    SLURM's own default is one CPU, whatever the number of GPUs: a loader would starve. So a job gets the share of
    the node's CPUs that belongs to its GPUs, unless somebody has said otherwise.
    """
    slurm = options.slurm
    if slurm.cpus_per_task or "exclusive" in (slurm.sbatch or {}):
        return slurm.cpus_per_task, []
    if slurm.gpus is None:
        options.origins["cpus_per_task"] = "one for each process"
        unsaid = [] if slurm.cpu else ["one CPU process on each node; --gpus N or --cpu N asks for others"]
        return slurm.cpu or 1, unsaid
    partitions = cluster.chosen(slurm.partition)
    if len(partitions) != 1 or "DefCpuPerGPU" in partitions[0].get("JobDefaults", ""):
        return None, ["the number of CPUs is left to the partition"]
    cpus, gpus = cpus_and_gpus(partitions[0]["PartitionName"])
    asked = int(str(slurm.gpus).rpartition(":")[2])
    if not gpus:
        return None, []
    options.origins["cpus_per_task"] = f"the share of {asked} of {gpus} GPUs in {cpus} CPUs"
    return max(1, cpus * min(asked, gpus) // gpus), []


def _too_long(slurm: SlurmConfig, cluster: Cluster) -> list[str]:
    """A time limit that SLURM takes and then waits with for ever, where a site has not set EnforcePartLimits."""
    wanted = seconds_of(slurm.time) if slurm.time else 0
    for part in cluster.chosen(slurm.partition):
        longest = part.get("MaxTime", "")
        if wanted is not None and re.fullmatch(r"[0-9:-]+", longest) and wanted > (seconds_of(longest) or 0):
            name = part["PartitionName"]
            return [f"partition {name} has a limit of {longest}: with {slurm.time} the job may wait for ever"]
    return []


def _check_partitions(options: JobOptions, cluster: Cluster) -> None:
    for name in (options.slurm.partition or "").split(","):
        if name and name not in cluster.partitions:
            close = did_you_mean(name, cluster.partitions)
            raise UsageError(
                f"partition {name} ({options.origins['partition']}): {cluster.name or 'this cluster'} has none of"
                f" this name" + (f"; did you mean {close}?" if close else ""),
                "it has " + ", ".join(cluster.partitions),
            )


def _check_setup(setup: str) -> None:
    """Whether bash can read the set-up lines, before they wait in a queue for hours."""
    bash = shutil.which("bash") if setup else None
    if bash is None:
        return
    read = subprocess.run([bash, "-n"], input=setup, capture_output=True, text=True, check=False, timeout=60)
    if read.returncode:
        words = read.stderr.replace(f"{bash}: ", "").strip().splitlines()
        raise UsageError(
            "slurm.setup: bash cannot read these lines: " + (words[0] if words else ""),
            "each item must be a whole command; put longer ones into a script and source it",
        )


def _test(submission: Submission, options: JobOptions, cluster: Cluster) -> str:
    """When SLURM expects to start the job; empty where it does not say.

    Raises:
        UsageError: it would refuse it.
    """
    try:
        answer = slurm_client.try_submit(submission.arguments, also=submission.job.env)
    except SlurmError as error:
        raise refusal(error, next(iter(cluster.chosen(options.slurm.partition)), None)) from error
    found = re.search(r"to start at (\S+)", answer)
    return found[1] if found else ""


def _send(new: _NewRun, submission: Submission) -> int:
    """Submit it, and note that before anything else can happen."""
    with undisturbed():
        try:
            job = slurm_client.submit(submission.arguments, also=submission.job.env)
        except SlurmError as error:
            refused = refusal(error, None)
            new.is_kept = refused is error  # the job may be there all the same
            raise refused from error
        new.is_kept = True
        note_job(submission.folder, "submitted", job, how=submission.job.how)
    return job


def _fill(submission: Submission) -> None:
    """Write the run folder; ``job.json`` last, with it the folder is a run."""
    folder = slurm_folder(submission.folder)
    if submission.setup:
        (folder / SETUP).write_text(submission.setup, encoding="utf-8")
    if submission.config:
        (submission.folder / "config.yaml").write_text(submission.config, encoding="utf-8")
    write_job(submission.folder, submission.job)


def _show(submission: Submission, request: SubmitRequest, expected: str, notes: list[str]) -> None:
    if request.json:
        put_json(
            {"schema_version": 1, "status": "planned", "expected_start": expected, **submission.to_json()}
        )
        return
    put(listing_of(submission.to_json(), submission.values))
    say(f"note: {note}" for note in notes)
    say([f"nothing was sent; SLURM would take it{_when(expected)}"])


def _when(expected: str) -> str:
    return f", to start at {expected.replace('T', ' ')} as it looks now" if expected else ""


def _tell(submission: Submission, request: SubmitRequest, job: int, expected: str, notes: list[str]) -> None:
    run = submission.folder.name
    if request.json:
        facts = {"run": run, "run_dir": str(submission.folder), "status": "queued", "job": str(job)}
        put_json({"schema_version": 1, **facts, "expected_start": expected})
    say(f"note: {note}" for note in notes)
    say([f"{run}: job {job} is queued{_when(expected)}"])
    say([f"see `launch status {run}`, `launch logs {run} -f`; end it with `launch stop {run}`"])

"""``launch submit``: from what was asked for to a job in SLURM's queue, or to a card that says why not."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.errors import UsageError
from ..data.suggest import did_you_mean
from ..training.spec import SlurmConfig
from .clusters import command_line, find_profile
from .config import ResolvedConfig, to_yaml
from .console import put, put_json, say
from .job import write_job
from .job_log import note_job, slurm_folder
from .job_options import JobOptions, Layer, job_options
from .names import program_stem, safe_stem
from .runs import create_run
from .sbatch import How
from .submission import SETUP, Submission, compose
from .submit_client import Cluster, RefusedError, ask_cluster, cpus_and_gpus, send, test_only, undisturbed
from .submit_view import listing_of


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
    said = [_of_config(request.resolved), command_line(request.slurm)]
    find_profile(request.cluster, None)  # a mistake in it is found without SLURM, too
    cluster = ask_cluster()
    options = job_options([find_profile(request.cluster, cluster.name).layer, *said])
    _check_partitions(options, cluster)
    with _folder(request) as new:
        submission, notes = _compose(new.path, request, options, cluster)
        expected = _test(submission, options.slurm, cluster)
        if request.dry_run:
            _show(submission, request, expected, notes)
            return 0
        _fill(submission)
        with undisturbed():
            job = _send(submission)
            new.is_kept = True
            note_job(submission.folder, "submitted", job, how=submission.job.how)
    _tell(submission, request, job, expected, notes)
    return 0


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
    cores, note = _cores(options, cluster)
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
    return submission, note


def continuation(slurm: SlurmConfig, cluster: Cluster) -> tuple[How, bool]:
    """How a job goes on that was stopped before its end, and whether SLURM puts it back into the queue by itself.

    A chained job waits behind its predecessor from the start and begins seconds after it has ended, whatever ended
    it; a requeued one begins after two minutes. So ``auto`` chains, and leaves to SLURM only what SLURM does
    anyway: where a preempted job is requeued it keeps its number and its age in the queue, and the chained job,
    which waits for its end, goes on waiting. Where preemption cancels, the chain takes that over as well.
    """
    wanted = slurm.continuation or "auto"
    if wanted == "auto":
        requeues = cluster.preempts and any(part.requeues for part in cluster.chosen(slurm.partition))
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
        return slurm.cpu or 1, []
    partitions = cluster.chosen(slurm.partition)
    if len(partitions) != 1 or "DefCpuPerGPU" in partitions[0].fields.get("JobDefaults", ""):
        return None, ["the number of CPUs is left to the partition"]
    cpus, gpus = cpus_and_gpus(partitions[0].name)
    asked = int(str(slurm.gpus).rpartition(":")[2])
    if not gpus:
        return None, []
    options.origins["cpus_per_task"] = f"the share of {asked} of {gpus} GPUs in {cpus} CPUs"
    return max(1, cpus * min(asked, gpus) // gpus), []


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


def _test(submission: Submission, slurm: SlurmConfig, cluster: Cluster) -> str:
    try:
        return test_only([*submission.job.sbatch, *submission.arguments], submission.environment)
    except RefusedError as error:
        raise _refused(str(error), slurm, cluster) from error


def _send(submission: Submission) -> int:
    try:
        return send([*submission.job.sbatch, *submission.arguments], submission.environment)
    except RefusedError as error:
        raise UsageError(
            f"SLURM refuses the job: {error}", "`launch submit … --dry-run` shows its options"
        ) from error


def _refused(words: str, slurm: SlurmConfig, cluster: Cluster) -> UsageError:
    words = words.removeprefix("allocation failure: ").removeprefix("Batch job submission failed: ")
    partition = next(iter(cluster.chosen(slurm.partition)), None)
    return UsageError(f"SLURM refuses the job: {words}", _advice(words, partition))


def _advice(words: str, partition: Any) -> str:
    lower = words.lower()
    if "account" in lower or "qos" in lower:
        return "`sacctmgr show assoc user=$USER format=account,partition,qos` lists what you may use"
    if "node configuration" in lower or "node count" in lower:
        return _size_of(partition)
    if "time limit" in lower and partition is not None:
        return f"partition {partition.name} allows {partition.fields.get('MaxTime', 'less')}"
    if "feature" in lower:
        return '`sinfo -o "%N %f"` lists the features of the nodes'
    if "reservation" in lower:
        return "`scontrol show reservation` lists the reservations"
    return "`launch submit … --dry-run` shows where each option comes from"


def _size_of(partition: Any) -> str:
    if partition is None:
        return "`sinfo` shows what there is"
    cpus, gpus = cpus_and_gpus(partition.name)
    nodes = partition.fields.get("TotalNodes", "?")
    return f"partition {partition.name} has {nodes} nodes with {cpus} CPUs and {gpus} GPUs each"


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
    return f" and expects to start it at {expected.replace('T', ' ')}" if expected else ""


def _tell(submission: Submission, request: SubmitRequest, job: int, expected: str, notes: list[str]) -> None:
    run = submission.folder.name
    if request.json:
        facts = {"run": run, "run_dir": str(submission.folder), "status": "queued", "job": str(job)}
        put_json({"schema_version": 1, **facts, "expected_start": expected})
    say(f"note: {note}" for note in notes)
    say([f"{run}: job {job} is queued{_when(expected)}"])
    say([f"see `launch status {run}`, `launch logs {run} -f`; end it with `launch stop {run}`"])

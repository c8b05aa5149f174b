"""What ``launch submit`` has to know about the cluster, and SLURM's refusals in plain words."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ...data.common import LockstepError, MachineError, UsageError
from ..slurm import (
    NodeRequirements,
    PendingSubmission,
    SlurmError,
    SlurmSilentError,
    explain_queue_wait,
    slurm_client,
)

_NO_PLACE = "Requested node configuration is not available"
_PREFIX = re.compile(r"^(sbatch: )?(error: |fatal: )?(allocation failure: |Batch job submission failed: )?")
_YOURS = "`sacctmgr show assoc user=$USER format=account,partition,qos` lists what you may use"
_ADVICE = {
    "account": _YOURS,
    "qos": _YOURS,
    "feature": '`sinfo -o "%N %f"` lists the features of the nodes',
    "node name": "`sinfo -N` lists the nodes",
    "reservation": "`scontrol show reservation` lists the reservations",
    "permission": _YOURS,
}


@dataclass(frozen=True)
class ClusterInfo:
    """The facts about a cluster that a submission has to know."""

    name: str
    partitions: Mapping[str, Mapping[str, str]]
    """By name, in scontrol's words."""
    preempts: bool
    """Whether anything is ever preempted."""

    def chosen(self, names: str | None) -> list[Mapping[str, str]]:
        """Return the partitions of ``--partition``, or the default one."""
        if names is None:
            return [part for part in self.partitions.values() if part.get("Default") == "YES"]
        return [self.partitions[name] for name in names.split(",") if name in self.partitions]


def query_cluster() -> ClusterInfo:
    """Look at the cluster that this machine submits to.

    Raises:
        MachineError: SLURM's tools are not here, or its controller does not answer.
    """
    if not slurm_client.has_slurm():
        raise MachineError(
            "there is no SLURM on this machine: no sbatch on the PATH",
            "submit on a login node of your cluster, or try it on a SLURM of your own: `launch slurm-sandbox up`",
        )
    config = slurm_client.config()
    preempts = config.get("PreemptType", "").removeprefix("preempt/") not in ("", "none", "(null)")
    found = {part["PartitionName"]: part for part in slurm_client.partitions()}
    return ClusterInfo(config.get("ClusterName", ""), found, preempts)


def cpus_and_gpus(partition: str) -> tuple[int, int]:
    """Return the CPUs and GPUs of the nodes that have the fewest CPUs per GPU; 0 GPUs if no node has any."""
    sizes = {(node.cpus, node.gpus) for node in slurm_client.nodes(partition)}
    with_gpus = [size for size in sizes if size[1]] or sorted(sizes)
    return min(with_gpus, key=lambda size: size[0] / max(1, size[1]), default=(1, 0))


@dataclass
class NewFolders:
    """The folders that were made for a job which is yet to be sent."""

    folders: list[Path] = field(default_factory=list)
    is_kept: bool = False


@contextmanager
def discard_unless_sent() -> Iterator[NewFolders]:
    """Remove new folders at the end, which frees their names, unless a job was sent that needs them."""
    new_folders = NewFolders()
    try:
        yield new_folders
    finally:
        for folder in [] if new_folders.is_kept else new_folders.folders:
            shutil.rmtree(folder)


@dataclass(frozen=True)
class SubmissionForecast:
    """The answer of SLURM about a job that is not sent yet."""

    start: str = ""
    """When it is expected to; empty where SLURM does not say."""
    waits_for: str = ""
    """Why there is no place for it at the moment, where sbatch alone can tell whether there ever will be."""

    @property
    def notes(self) -> list[str]:
        """Notes for the user."""
        return [self.waits_for] if self.waits_for else []

    @property
    def verdict(self) -> str:
        """The last line of ``--dry-run``."""
        if self.waits_for:
            return "nothing was sent; whether SLURM takes it shows when it is sent"
        return f"nothing was sent; SLURM would take it{describe_start(self.start)}"


def forecast_submission(
    arguments: Sequence[str], extra_variables: Iterable[str], need: NodeRequirements
) -> SubmissionForecast:
    """Ask SLURM whether it would take a job, and when it would start.

    ``--test-only`` has the same words for a job that has to wait for nodes which are drained, down or reserved as for
    one that never fits. So what fits once all nodes are back is left to sbatch itself to refuse.

    Raises:
        UsageError: it would refuse it.
    """
    try:
        answer = slurm_client.try_submit(arguments, extra_variables=extra_variables)
    except SlurmError as error:
        refused = explain_refusal(error, need)
        nodes = slurm_client.nodes(*need.names) if _NO_PLACE in str(refused) and need.names else []
        if not need.fits(nodes):
            raise refused from error
        return SubmissionForecast(waits_for=explain_queue_wait(nodes, _NO_PLACE))
    found = re.search(r"to start at (\S+)", answer)
    return SubmissionForecast(start=found[1] if found else "")


def send(
    arguments: Sequence[str],
    extra_variables: Iterable[str],
    new_folders: NewFolders,
    submissions: Sequence[PendingSubmission],
    need: NodeRequirements | None = None,
) -> int:
    """Submit a job, and note that before anything else can happen; its number."""
    with block_signals():
        for submission in submissions:
            submission.record_sending()
        try:
            job = slurm_client.submit(arguments, extra_variables=extra_variables)
        except SlurmError as error:
            refused = explain_refusal(error, need or NodeRequirements())
            new_folders.is_kept = refused is error  # the job may be there all the same
            for submission in [] if new_folders.is_kept else submissions:
                submission.record_refused()
            raise refused from error
        new_folders.is_kept = True
        for submission in submissions:
            submission.record_submitted(job)
    return job


def describe_start(expected: str) -> str:
    """Describe an expected start."""
    return f", to start at {expected.replace('T', ' ')} as it looks now" if expected else ""


@contextmanager
def block_signals() -> Iterator[None]:
    """Block signals from sbatch's answer until it is noted, or a job could be left that no run knows of."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def explain_refusal(error: SlurmError, need: NodeRequirements) -> LockstepError:
    """Explain sbatch's refusal, and what to do about it; an error that means silence is returned as it is.

    Args:
        error: of ``slurm_client.submit`` or ``try_submit``.
        need: what was asked for.
    """
    if isinstance(error, SlurmSilentError):
        return error
    said = [_PREFIX.sub("", line) for line in error.message.split("\n")[1:]]
    words = (
        "; ".join(dict.fromkeys(line for line in said if line and not line.startswith("Try ")))
        or error.message
    )
    return UsageError(f"SLURM refuses the job: {words}", _advice(words.lower(), need))


def _advice(words: str, need: NodeRequirements) -> str:
    partition = next(iter(need.partitions), None)
    if "node configuration" in words or "node count" in words:
        return _size_of(partition)
    if "time limit" in words and partition is not None:
        return f"partition {partition['PartitionName']} allows {partition.get('MaxTime', 'less')}"
    otherwise = "`launch submit … --dry-run` shows where each option comes from"
    return next((advice for sign, advice in _ADVICE.items() if sign in words), otherwise)


def _size_of(partition: Mapping[str, str] | None) -> str:
    if partition is None:
        return "`sinfo` shows what there is"
    name = partition["PartitionName"]
    cpus, gpus = cpus_and_gpus(name)
    nodes = partition.get("TotalNodes", "?")
    return f"partition {name} has {nodes} nodes, each with {cpus} CPUs and {gpus} GPUs"

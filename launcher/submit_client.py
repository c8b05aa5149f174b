"""What ``launch submit`` asks of SLURM: its configuration, its partitions, and whether it takes a job."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ..data.errors import MachineError, UsageError
from .yaml_file import printable

_PATIENCE = 120.0  # seconds; a controller under load takes its time, one that is gone must not hold people up
_OUT_OF_REACH = re.compile(
    r"contact slurm controller|configuration source|connection|timed out|munge|socket|protocol auth",
    re.IGNORECASE,
)
_KEPT = ("SLURM_CONF", "SLURM_JWT")


class RefusedError(Exception):
    """SLURM does not take the job; its own words."""


@dataclass(frozen=True)
class Partition:
    """Of ``scontrol show partition``."""

    name: str
    fields: Mapping[str, str]

    @property
    def requeues(self) -> bool:
        """Whether a job that is preempted here comes back into the queue by itself."""
        return "REQUEUE" in self.fields.get("PreemptMode", "")


@dataclass(frozen=True)
class Cluster:
    """What a submission has to know about the cluster."""

    name: str
    partitions: Mapping[str, Partition]
    preempts: bool
    """Whether anything is ever preempted."""

    def chosen(self, names: str | None) -> list[Partition]:
        """The partitions of ``--partition``, or the default one."""
        if names is None:
            return [part for part in self.partitions.values() if part.fields.get("Default") == "YES"]
        return [self.partitions[name] for name in names.split(",") if name in self.partitions]


def ask_cluster() -> Cluster:
    """Look at the cluster that this machine submits to.

    Raises:
        MachineError: SLURM's tools are not here, or its controller does not answer.
    """
    if shutil.which("sbatch") is None:
        raise MachineError(
            "this machine has no SLURM: there is no sbatch on the PATH",
            "submit on a login node of your cluster; slurm/README.md tells how to try it without one",
        )
    config = dict(_settings(_answer("scontrol", "show", "config")))
    partitions = [
        _fields(line) for line in _answer("scontrol", "--oneliner", "show", "partition").splitlines()
    ]
    found = {part["PartitionName"]: Partition(part["PartitionName"], part) for part in partitions if part}
    preempts = config.get("PreemptType", "").removeprefix("preempt/") not in ("", "none", "(null)")
    return Cluster(config.get("ClusterName", ""), found, preempts)


def cpus_and_gpus(partition: str) -> tuple[int, int]:
    """CPUs and GPUs of a partition's smallest node; no GPUs where it has none."""
    rows = [line.split("|") for line in _answer("sinfo", "-h", "-p", partition, "-o", "%c|%G").splitlines()]
    pairs = [(int(cpus.rstrip("+")), _gpus(gres)) for cpus, gres in rows]
    with_gpus = [pair for pair in pairs if pair[1]] or pairs
    return min(with_gpus, key=lambda pair: pair[0] / max(1, pair[1]), default=(1, 0))


def test_only(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """When SLURM expects to start a job, in its own words; empty where it does not say.

    Args:
        arguments: all that follows ``sbatch``.
        environment: of the job.

    Raises:
        RefusedError: it would not take it.
        MachineError: it does not answer.
    """
    done = _run(["sbatch", "--test-only", *arguments], environment)
    found = re.search(r"to start at (\S+)", done.stderr + done.stdout)
    return found[1] if found else ""


def send(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Submit a job; its number.

    Args:
        arguments: all that follows ``sbatch``.
        environment: of the job.

    Raises:
        RefusedError: SLURM does not take it.
        MachineError: it does not answer.
    """
    answer = _run(["sbatch", "--parsable", *arguments], environment).stdout
    found = re.match(r"\s*([0-9]+)", answer.strip().splitlines()[-1] if answer.strip() else "")
    if found is None:
        raise MachineError(
            f"sbatch answered {printable(answer)!r} in place of a job's number", "see `squeue --me`"
        )
    return int(found[1])


@contextmanager
def undisturbed() -> Iterator[None]:
    """No signal between sbatch's answer and the note of it, or a job would be left that no run knows of."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what a surrounding job has set: SBATCH_ and SLURM_ variables are options that nobody gave."""
    left = {
        k: v for k, v in environment.items() if not k.startswith(("SLURM_", "SBATCH_", "SINFO_", "SQUEUE_"))
    }
    return left | {name: os.environ[name] for name in _KEPT if name in os.environ}


def _answer(*command: str) -> str:
    try:
        return _run(command, {}).stdout
    except RefusedError as error:
        raise MachineError(
            f"{command[0]}: {error}", "is SLURM in order here? `sinfo` would say the same"
        ) from error


def _run(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            command,
            env=clean(environment or os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        about = f"{command[0]}: SLURM has not answered for {_PATIENCE:.0f} s"
        raise MachineError(about, "`squeue --me` tells whether a job was submitted") from error
    except FileNotFoundError as error:
        raise MachineError(f"there is no {command[0]} on the PATH", "submit on a login node") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{command[0]}: cannot be started: {error}") from error
    if done.returncode:
        raise _refusal(done)
    return done


def _refusal(done: subprocess.CompletedProcess[str]) -> Exception:
    lines = [
        re.sub(r"^(sbatch|scontrol|sinfo): (error: |fatal: )?", "", line) for line in done.stderr.splitlines()
    ]
    words = printable("; ".join(dict.fromkeys(line for line in lines if line.strip())) or "it gave no reason")
    if _OUT_OF_REACH.search(words):
        return MachineError(f"SLURM does not answer: {words}", "is this a login node? try `sinfo`")
    return RefusedError(words)


def _settings(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals:
            yield key.strip(), value.strip()


def _fields(line: str) -> dict[str, str]:
    pairs = (word.partition("=") for word in line.split())
    return {key: value for key, equals, value in pairs if equals}


def _gpus(gres: str) -> int:
    counts = re.findall(r"\bgpu(?::[A-Za-z][^:,()]*)?:([0-9]+)", gres)
    return sum(map(int, counts))

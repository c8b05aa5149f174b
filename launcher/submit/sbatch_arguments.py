"""A job's options as sbatch's arguments. The one file where sbatch's options are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from ...data.common import UsageError
from ..config import printable
from ..slurm import FOLDER, SlurmConfig, declared_options, time_limit_seconds

How = Literal["requeue", "chain", "none"]

_WARNING = 120
_SHORT = 10


def sbatch_options(
    run: Path, slurm: SlurmConfig, *, cores: int | None, requeue: bool, tasks: str = ""
) -> list[str]:
    """Return all of sbatch's options, each as one argument ``--name=value``.

    Args:
        run: the run's folder, which also names the job; of an array, the sweep's.
        slurm: what the job asks for.
        cores: CPUs on each node; None leaves them to the partition.
        requeue: whether SLURM puts the job back into the queue when it is preempted or loses a node.
        tasks: the value of ``--array``, which makes it an array; empty for a single job.
    """
    options = [
        f"--job-name={run.name}",
        f"--chdir={run}",
        f"--output={_pattern(run, tasks)}",
        "--open-mode=append",
    ]
    options += [f"--array={tasks}"] if tasks else []
    options += [f"--nodes={slurm.nodes or 1}", "--ntasks-per-node=1"]
    options += [f"--gpus-per-node={slurm.gpus}"] if slurm.gpus else []
    options += [f"--cpus-per-task={cores}"] if cores else []
    options += _passed_as_they_are(slurm)
    options += [
        f"--signal=B:USR1@{warning(slurm)}",
        "--requeue" if requeue else "--no-requeue",
        "--export=ALL",
    ]
    return [*options, *_others(slurm)]


def warning(slurm: SlurmConfig) -> int:
    """Return how many seconds before the time limit SLURM should send its signal, which it does up to 60 s early.

    The supervisor's own clock stops a training in time; this is the safety net. A script gets its ``grace`` within it.
    """
    limit = time_limit_seconds(slurm.time) if slurm.time else None
    wanted = max(_WARNING, round(slurm.grace or 0) + _WARNING // 2)
    return wanted if limit is None else max(_SHORT, min(wanted, limit // 5))


def refuse_path(path: Path, what: str) -> None:
    """Refuse what SLURM or a terminal would take for something else than a part of a path.

    Raises:
        UsageError: it has a control character or a backslash.
    """
    text = str(path)
    if not text.isprintable() or "\\" in text:
        raise UsageError(
            f"{printable(text)}: {what} must have neither control characters nor backslashes in its path",
            "SLURM cannot write there: use another folder",
        )


def tasks_of(indices: Sequence[int], at_once: int | None) -> str:
    """Return points of a sweep in the syntax of ``--array``: ``0-3,7%2``."""
    spans: list[list[int]] = []
    for index in sorted(indices):
        if spans and index == spans[-1][-1] + 1:
            spans[-1][1:] = [index]
        else:
            spans.append([index])
    return ",".join("-".join(map(str, span)) for span in spans) + (f"%{at_once}" if at_once else "")


def _pattern(run: Path, tasks: str) -> str:
    """Return the path pattern of the job's own log, in which SLURM reads % as the beginning of a field, and %% as %.

    A task of an array writes into the folder of its own point, ``NAME-007`` beside the sweep's.
    """
    if tasks:
        return f"{run}-".replace("%", "%%") + f"%3a/{FOLDER}/job-%A_%a.log"
    return f"{run}/{FOLDER}/".replace("%", "%%") + "job-%j.log"


def _passed_as_they_are(slurm: SlurmConfig) -> Iterator[str]:
    for key, option in declared_options(type(slurm)).items():
        value = getattr(slurm, key)
        if option.is_passed_as_is and value:
            yield f"--{option.sbatch}={value}"


def _others(slurm: SlurmConfig) -> Iterator[str]:
    for name, value in (slurm.sbatch or {}).items():
        yield f"--{name}" if value is True else f"--{name}={value}"

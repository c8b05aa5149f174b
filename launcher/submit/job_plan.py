"""What a job will be on this cluster: its options from all sources, checked, before a folder is made for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...data.common import UsageError, closest_name
from ..config import ResolvedConfig, printable
from ..slurm import NodeRequirements, SlurmConfig, time_limit_note, time_limit_seconds, withheld_variables
from .cluster_profiles import command_line, find_profile
from .option_layers import JobOptions, OptionLayer, job_options
from .sbatch_arguments import How
from .scheduler import ClusterInfo, cpus_and_gpus, query_cluster

_WHOLE = "each item must be a whole command; put longer ones into a script and source it"


@dataclass(frozen=True)
class JobPlan:
    """A job, but for its folder."""

    options: JobOptions
    cores: int | None
    """CPUs of each node; None for the partition's default."""
    how: How
    requeue: bool
    """Whether SLURM itself puts the job back into the queue."""
    need: NodeRequirements
    notes: list[str]
    """For the user."""


def plan_job(
    resolved: ResolvedConfig | None, said: dict[str, Any], profile: str | None, at_once: int | None = None
) -> JobPlan:
    """Put together what is asked for, and look whether this cluster has it.

    Args:
        resolved: of a training.
        said: keys of the ``slurm:`` section on the command line; None where nothing was said.
        profile: ``--cluster``.
        at_once: of an array: how many of its tasks may run together.

    Raises:
        UsageError: something that was asked for is wrong.
        MachineError: SLURM does not answer.
    """
    layers = [slurm_layer(resolved), command_line(said)]
    find_profile(profile, None)  # a mistake in it is found without SLURM, too
    cluster = query_cluster()
    layers = [find_profile(profile, cluster.name).layer, *layers]
    options = job_options(layers)
    _check_partitions(options, cluster)
    how, requeue = continuation(options.slurm, cluster, at_once)
    cores, notes = _cores(options, cluster)
    notes += [*_bare_time(options, layers), *_too_long(options.slurm, cluster), *_withheld(options.slurm)]
    if at_once and how == "chain":
        notes.append(f"jobs that continue a stopped point come on top of the {at_once} at once")
    return JobPlan(options, cores, how, requeue, _need(options.slurm, cores, cluster), notes)


def _bare_time(options: JobOptions, layers: Sequence[OptionLayer]) -> list[str]:
    """Note a time limit that was given without a unit; the config's own was noted when that was read."""
    where = options.origins.get("time", "")
    said = [layer.values.get("time") for layer in layers if layer.origins.get("time") == where]
    return [note for value in said if (note := time_limit_note(value, where))]


def _withheld(slurm: SlurmConfig) -> list[str]:
    return [
        f"{name} does not travel: there is a user in its address, which SLURM would store"
        for name in withheld_variables(os.environ, slurm.env or ())
    ]


def _need(slurm: SlurmConfig, cores: int | None, cluster: ClusterInfo) -> NodeRequirements:
    gpus = int(str(slurm.gpus or 0).rpartition(":")[2])
    return NodeRequirements(
        cluster.chosen(slurm.partition), slurm.nodes or 1, cores or 0, gpus, slurm.mem or ""
    )


def slurm_layer(resolved: ResolvedConfig | None) -> OptionLayer:
    """Return the config's ``slurm:`` section as a layer; a mapping has the origin of its first entry."""
    if resolved is None:
        return OptionLayer({}, {})
    section = resolved.slurm.model_dump(mode="json")
    places: dict[str, str] = {}
    for path, where in resolved.origins.items():
        if path.startswith("slurm."):
            places.setdefault(path.split(".")[1], f"config {where}")
    return OptionLayer(section, places)


def continuation(slurm: SlurmConfig, cluster: ClusterInfo, at_once: int | None = None) -> tuple[How, bool]:
    """Decide how a stopped job continues, and whether SLURM itself requeues it.

    A chained job waits behind its predecessor from the start and begins seconds after it has ended, whatever ended
    it; a requeued one begins after two minutes. So ``auto`` chains, and leaves to SLURM only what SLURM does
    anyway: where a preempted job is requeued it keeps its number and its age in the queue, and the chained job,
    which waits for its end, keeps waiting. Where preemption cancels, the chain takes that over as well.

    A chained job is none of the array's tasks: where only so many of those may run at once, a task is requeued, so
    that the limit holds for what continues as well, at the cost of two minutes' wait.
    """
    wanted = slurm.continuation or "auto"
    if wanted == "auto":
        modes = [part.get("PreemptMode", "") for part in cluster.chosen(slurm.partition)]
        requeues = cluster.preempts and any("REQUEUE" in mode for mode in modes)
        cancels = cluster.preempts and any("CANCEL" in mode for mode in modes)
        return ("requeue", True) if at_once and not cancels else ("chain", requeues)
    return wanted, wanted == "requeue"


def _cores(options: JobOptions, cluster: ClusterInfo) -> tuple[int | None, list[str]]:
    """Return the number of CPUs per node, and notes for the user about it.

    SLURM's own default is one CPU, whatever the number of GPUs: a loader would starve. So a job gets the share of
    the node's CPUs that belongs to its GPUs, unless an option says otherwise.
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


def _too_long(slurm: SlurmConfig, cluster: ClusterInfo) -> list[str]:
    """Note a time limit with which the job would wait for ever: SLURM accepts it unless EnforcePartLimits is set."""
    wanted = time_limit_seconds(slurm.time) if slurm.time else 0
    for part in cluster.chosen(slurm.partition):
        longest = part.get("MaxTime", "")
        if (
            wanted is not None
            and re.fullmatch(r"[0-9:-]+", longest)
            and wanted > (time_limit_seconds(longest) or 0)
        ):
            name = part["PartitionName"]
            return [f"partition {name} has a limit of {longest}: with {slurm.time} the job may wait for ever"]
    return []


def _check_partitions(options: JobOptions, cluster: ClusterInfo) -> None:
    for name in (options.slurm.partition or "").split(","):
        if name and name not in cluster.partitions:
            close = closest_name(name, cluster.partitions)
            raise UsageError(
                f"partition {name} ({options.origins['partition']}): {cluster.name or 'this cluster'} has none of"
                f" this name" + (f"; did you mean {close}?" if close else ""),
                "it has " + ", ".join(cluster.partitions),
            )


def check_setup(setup: str) -> None:
    """Check that bash can parse the set-up lines, before they wait in a queue for hours.

    Raises:
        UsageError: it cannot, or a line continues in the next, which it would swallow.
    """
    bash = shutil.which("bash") if setup else None
    if bash is None:
        return
    whole = _read(bash, setup)
    if whole.returncode:
        words = whole.stderr.replace(f"{bash}: ", "").strip().splitlines()
        raise UsageError(f"slurm.setup: bash cannot read these lines: {''.join(words[:1])}", _WHOLE)
    for line in setup.splitlines():
        if "<<" in line and "here-document" in _read(bash, f"{line}\n").stderr:
            raise UsageError(f"slurm.setup: {printable(line)}: a here-document has no end here", _WHOLE)


def _read(bash: str, text: str) -> subprocess.CompletedProcess[str]:
    """Let bash parse a text, with messages in English; an open here-document is only a warning to it."""
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(
        [bash, "-n"], input=text, env=environment, capture_output=True, text=True, check=False, timeout=60
    )

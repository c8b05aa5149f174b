"""Whether a node of a SLURM job has what the job asked for; an error names the node that falls short."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...data.common import MachineError
from ..machine import Machine
from ..slurm import JobSpec


def verify(job: JobSpec, node: str, machine: Machine) -> list[str]:
    """Compare this node with the job; return notes for the user.

    Args:
        job: what was asked for, per node.
        node: its name in SLURM.
        machine: as this process sees it.

    Raises:
        MachineError: it has fewer GPUs, or may use fewer cores, than the job asked for.
    """
    _verify_gpus(job, node, machine)
    return list(_verify_cores(job, node, len(os.sched_getaffinity(0)), os.cpu_count() or 1, machine.cores))


def _verify_gpus(job: JobSpec, node: str, machine: Machine) -> None:
    wanted = int(job.gpus) if job.gpus else 0
    if len(machine.gpus) < wanted:
        seen = ", ".join(machine.gpus) or "none"
        raise MachineError(
            f"node {node}: the job asked for {wanted} GPUs on each node, and this one shows"
            f" {len(machine.gpus)} ({seen})",
            f"look at it with `srun -w {node} nvidia-smi`, or leave it out with --exclude {node}",
        )


def _verify_cores(job: JobSpec, node: str, bound: int, online: int, cores: int) -> Iterator[str]:
    """Compare cores: SLURM narrows a step by its affinity alone; a smaller machine or container quota is another case.

    A sandbox has nodes that claim more CPUs than there are; that is reported, and nothing more can be done.
    """
    wanted = job.cores or 0
    if bound < min(wanted, online):
        raise MachineError(
            f"node {node}: the job asked for {wanted} cores on each node, and its processes are bound to"
            f" {bound} of {online}",
            f"something narrows the step: see TaskPluginParam of the cluster, or leave the node out with"
            f" --exclude {node}",
        )
    if min(online, cores) < wanted:
        yield (
            f"note: node {node} is oversubscribed: the job was given {wanted} cores,"
            f" and there are {min(online, cores)}"
        )

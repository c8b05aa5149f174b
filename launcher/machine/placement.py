"""Which processes a launch gets on this machine, and on which GPUs and cores."""

from __future__ import annotations

import os
from dataclasses import replace

from ..options import LocalTask
from .gpu_selection import select_gpus
from .machine import Machine
from .numa import share_cpus, spread_ranks
from .process_layout import World


def choose_layout(machine: Machine, gpus: str | None, cpu: int | None) -> World:
    """Lay out the processes that were asked for, never silently fewer, without regard to other launches.

    Args:
        machine: what there is.
        gpus: ``N``, ``all``, ``idle``, ``idle:N`` or a list such as ``0,2`` or of UUIDs.
        cpu: number of CPU processes. With neither: every visible GPU, else one CPU process.

    Raises:
        UsageError: the request makes no sense.
        MachineError: the machine has no such GPUs.
    """
    wanted = select_gpus(machine, gpus, cpu)
    return layout_on(machine, wanted.candidates[: wanted.count], cpu)


def layout_on(
    machine: Machine, gpus: tuple[str, ...], cpu: int | None, task: LocalTask | None = None
) -> World:
    """Lay out one process on each of ``gpus``; without any, ``cpu`` processes or one.

    Args:
        machine: what there is.
        gpus: that are taken.
        cpu: number of processes without a GPU.
        task: this one of several on the machine, which share it.
    """
    if task is not None:
        return _layout_of_task(machine, gpus, task)
    processes = cpu or len(gpus) or 1
    threads = max(1, machine.cores // processes)
    near = [machine.node(gpu) for gpu in gpus]
    return World(
        device="gpu" if gpus else "cpu",
        processes=processes,
        threads=threads,
        gpus=gpus,
        cores=machine.cores,
        cores_why=machine.cores_why,
        cpus=share_cpus(machine.nodes, near or spread_ranks(machine.nodes, processes), threads),
    )


def _layout_of_task(machine: Machine, gpus: tuple[str, ...], task: LocalTask) -> World:
    """Lay out the one process of a task, as one of a launch of that many processes on this machine.

    A starter that binds its tasks, as mpirun does, has given each its cores; else they share them all.
    """
    is_bound = sum(map(len, machine.nodes.values())) * task.count <= (os.cpu_count() or 1)
    shown = machine.gpus[: task.count] if gpus else ()
    whole = layout_on(machine, shown, None if shown else task.count)
    return replace(
        whole,
        processes=1,
        threads=machine.cores if is_bound else max(1, machine.cores // task.count),
        gpus=gpus,
        cpus=whole.cpus[task.rank : task.rank + 1] if len(whole.cpus) == task.count and not is_bound else (),
        task=task,
        visible=shown,
    )

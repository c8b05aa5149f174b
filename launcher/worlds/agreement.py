"""Which of the worlds that an environment tells of this command was started in; starters are often nested.

mpirun in a SLURM job starts its daemons by srun, torchrun stands in each pod of a TrainJob, and Flux and srun speak
PMI beside their own tongue. Where two worlds are one, or one lies in the other, that is found out; where not, variables
of one of them are left over from somewhere else, and nobody can know which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import dropwhile

from .started_world import MPI_DAEMONS, ForeignWorldError, StartedWorld

_DAEMONS = {
    "slurmstepd": ("a SLURM step",),
    "orted": ("Open MPI",),
    "prted": ("Open MPI",),
    "mpirun": ("Open MPI",),
    "prterun": ("Open MPI",),
    "hydra_pmi_proxy": ("PMI", "MVAPICH"),
    "pmi_proxy": ("PMI", "MVAPICH"),
    "torchrun": ("torchrun",),
}
"""Program to the worlds that it starts."""
_MPI = ("Open MPI", "PMI", "MVAPICH")
_MPI_DAEMONS = tuple(name[:15] for name in MPI_DAEMONS)  # the kernel keeps 15 letters


def find_world(worlds: Sequence[StartedWorld], ancestors: Sequence[str]) -> StartedWorld | None:
    """Return the innermost world, with what the others know of it; None for a command that was started once.

    Args:
        worlds: all that were read.
        ancestors: names of the programs above this process, the nearest first, as far as they are seen.

    Raises:
        ForeignWorldError: two of them contradict each other.
    """
    chosen = next(
        (world for world in worlds if all(_agrees(world, other, ancestors) for other in worlds)), None
    )
    if chosen is None and worlds:
        listed = "\n".join(map(str, worlds))
        raise ForeignWorldError(f"this command was started in worlds that contradict each other:\n{listed}")
    for other in worlds:
        if chosen is not None and _is_same(chosen, other):
            chosen = _joined(chosen, other)
    return chosen


def without_bootstraps(worlds: Sequence[StartedWorld], ancestors: Sequence[str]) -> list[StartedWorld]:
    """Leave out the step of srun's in which mpirun has started its own daemons.

    The job's name tells it, or where mpirun has passed on the batch script's variables (MPICH's does, its
    SLURM_TASK_PID, too), a daemon whose parent is the step.
    """
    if all(world.starter not in _MPI for world in worlds):
        return list(worlds)
    started = _step_started_daemons(ancestors)
    return [
        world
        for world in worlds
        if not (world.bootstraps_mpi or (started and world.starter == "a SLURM step"))
    ]


def _step_started_daemons(ancestors: Sequence[str]) -> bool:
    """Tell whether nothing but MPI's daemons stands between the nearest of them and a step of srun's."""
    daemons = dropwhile(lambda name: name not in _MPI_DAEMONS, ancestors)
    return next(dropwhile(lambda name: name in _MPI_DAEMONS, daemons), "") == "slurmstepd"


def _agrees(world: StartedWorld, other: StartedWorld, ancestors: Sequence[str]) -> bool:
    return world is other or _is_same(world, other) or _lies_in(world, other, ancestors)


def _is_same(world: StartedWorld, other: StartedWorld) -> bool:
    """Tell whether two starters speak of the same tasks; the one that knows more is the world."""
    if other.size is None:
        return world.rank == other.rank
    return (world.rank, world.size) == (other.rank, other.size) and all(
        mine is None or others is None or mine == others
        for mine, others in (
            (world.local_rank, other.local_rank),
            (world.local_size, other.local_size),
        )
    )


def _lies_in(world: StartedWorld, other: StartedWorld, ancestors: Sequence[str]) -> bool:
    """Tell whether each task of ``other`` has started its part of ``world``.

    That many nodes of just these numbers are no accident; one is, so that only the programs between tell.
    """
    if (other.local_size or 1) > 1 or other.rank != (world.node or 0):
        return False
    if other.size is None or other.size > 1:
        return (
            world.nodes is not None and world.nodes == (other.size or world.nodes) and world.node is not None
        )
    return (world.size or 1) > 1 and world.starter in _nearest(ancestors)


def _nearest(ancestors: Sequence[str]) -> tuple[str, ...]:
    return next((_DAEMONS[name] for name in ancestors if name in _DAEMONS), ())


def _joined(world: StartedWorld, other: StartedWorld) -> StartedWorld:
    """Add what another starter knows of the same tasks."""
    added = {
        name: getattr(other, name)
        for name in ("local_rank", "local_size", "node", "nodes", "rendezvous", "job")
        if getattr(world, name) in (None, "")
    }
    return replace(world, **added, variables={**world.variables, **other.variables})

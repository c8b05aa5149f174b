"""Whether a command takes over the world that it was started in, refuses it, or was started alone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...data.common import UsageError
from ..options import LocalTask, NodeOptions
from ..process import process_tree
from .agreement import find_world, without_bootstraps
from .evidence import ancestors, why_over
from .readers import read_worlds
from .refusal import announce_refusals
from .started_world import ForeignWorldError, StartedWorld

_LONGEST_NAME = 100


@dataclass(frozen=True)
class Placement:
    """The place of a launch in its world: as it was asked for, and after ``adopt`` as it is."""

    nodes: int | None = None
    """Number of them; None where nothing was said."""
    node_rank: int | None = None
    rendezvous: str = ""
    node_timeout: float = NodeOptions.timeout
    gpus: str | None = None
    cpu: int | None = None
    name: str | None = None
    needs_name: bool = True
    """Whether all nodes have to know the run's name: not where it resumes a run that is named."""
    task: LocalTask | None = None
    start: str = ""
    """See ``NodeOptions``."""
    refusal: Path | None = None
    notes: list[str] = field(default_factory=list)

    def options(self) -> NodeOptions:
        """Return which node this is."""
        place = self.nodes or 1, self.node_rank or 0, self.rendezvous, self.node_timeout
        return NodeOptions(*place, self.task, self.start, self.refusal)


def current_world(environment: Mapping[str, str] = os.environ) -> StartedWorld | None:
    """Return the world that this command was started in; None where it was started once.

    Raises:
        ForeignWorldError: its variables contradict each other, or are left over.
    """
    worlds = read_worlds(environment)
    above = ancestors() if worlds else {}
    programs = list(above.values())
    real = without_bootstraps(worlds, programs)
    found = find_world([world for world in real if not _is_over(world, environment, above)], programs)
    if found is not None and process_tree.RUN_MARK in environment and found.size != 1:
        ranks = f"rank {found.rank} of a launch of {found.size} ranks"
        raise ForeignWorldError(f"this is inside of {ranks}", "start it outside")
    return found


def _is_over(world: StartedWorld, environment: Mapping[str, str], above: Mapping[int, str]) -> bool:
    """Tell whether a task that was alone is over; variables of more than one that are left over are refused."""
    over = why_over(world.starter, environment, above)
    if over and world.size != 1:
        raise ForeignWorldError(f"{world}: that is over: {over}")
    return bool(over)


def refuse_copies(command: str, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a command that is started once, where it was started several times.

    Raises:
        ForeignWorldError: it was, or nobody knows.
    """
    world = current_world(environment)
    if world is not None and world.size != 1:
        number = "several" if world.size is None else world.size
        raise ForeignWorldError(
            f"{world}: {number} tasks would each do `launch {command}`", "start it once, outside of them"
        )


def adopt(
    asked: Placement,
    count_gpus: Callable[[], int],
    environment: Mapping[str, str] = os.environ,
    refusal_of: Callable[[str | None], Path | None] = lambda _: None,
) -> Placement:
    """Take over the world that this command was started in; return ``asked`` where it was started alone.

    Args:
        asked: on the command line.
        count_gpus: counts the GPUs that a launch would see.
        environment: with the starters' variables.
        refusal_of: the name of a run to ``NodeOptions.refusal``.

    Raises:
        ForeignWorldError: it contradicts itself or what was asked.
    """
    world = current_world(environment)
    if world is None or (world.size == 1 and world.processes in (None, 1)):
        return asked
    world = _with_size(world, asked)
    name = asked.name or (_run_name(world) if world.size != 1 and asked.needs_name else None)
    known = replace(asked, name=name, start=_start(world, environment), refusal=refusal_of(name))
    with announce_refusals(replace(known.options(), count=world.size or 1, rank=world.rank)):
        _refuse_half_known(world)
        placed = (_as_task if world.shares_machines else _as_node)(world, known, count_gpus)
        if world.size == 1:
            return replace(placed, start="", notes=[f"note: {world} asks for {world.processes} processes"])
        alone = world.local_size == world.size
        place = asked.rendezvous or ("" if alone else world.rendezvous)
        _refuse_nameless(world, placed, has_key=bool(place and environment.get("LOCKSTEP_KEY")))
        note = [_note(world)] if world.rank == 0 else []
        return replace(placed, node_rank=world.rank, rendezvous=place, notes=note)


def _refuse_nameless(world: StartedWorld, placed: Placement, *, has_key: bool) -> None:
    """Refuse tasks that would have no run in common, and do not know each other in another way."""
    if placed.needs_name and not placed.name and not has_key:
        raise UsageError(
            f"{world} started {world.size} tasks: which run is theirs?",
            "give them all the same --name, or let each be a run of its own with --ignore-world",
        )


def _with_size(world: StartedWorld, asked: Placement) -> StartedWorld:
    """Take the number of tasks from ``--nodes`` where the starter tells none."""
    if world.size is not None:
        return world
    if asked.nodes is None:
        raise ForeignWorldError(f"{world} does not tell how many there are", "say it with --nodes N")
    return replace(world, size=asked.nodes, nodes=asked.nodes)


def _refuse_half_known(world: StartedWorld) -> None:
    """Refuse tasks that have numbers on their machine, but do not know how many they are there."""
    if world.shares_machines and world.local_rank is None:
        raise ForeignWorldError(f"{world} does not tell which of the tasks on its machine this is")
    if world.local_rank is not None and world.local_size is None and world.size != 1:
        raise ForeignWorldError(f"{world} does not tell how many tasks are on this machine")


def _as_node(world: StartedWorld, asked: Placement, count_gpus: Callable[[], int]) -> Placement:
    """Place one task on each machine: a node whose processes are this launch's to choose."""
    _compare(world, "--nodes", asked.nodes, world.size)
    _compare(world, "--node-rank", asked.node_rank, world.rank)
    gpus, cpu, processes = asked.gpus, asked.cpu, world.processes
    if processes is not None:
        _compare(world, "--cpu", cpu, processes)
        _compare(world, "--gpus", gpus, str(processes))
    if gpus is None and cpu is None and processes is not None:
        on_gpus = count_gpus() > 0
        gpus, cpu = (str(processes), None) if on_gpus else (None, processes)
    elif gpus is None and cpu is None and world.device:
        gpus, cpu = ("all", None) if world.device == "gpu" else (None, 1)
    return replace(asked, nodes=world.size, gpus=gpus, cpu=cpu)


def _as_task(world: StartedWorld, asked: Placement, _: Callable[[], int]) -> Placement:
    """Place one of several tasks on this machine: it has one rank."""
    machine, machines = _machine(world)
    _compare(world, "--nodes", asked.nodes, machines)
    _compare(world, "--node-rank", asked.node_rank, machine)
    _compare(world, "--cpu", asked.cpu, 1, ": each task has one rank")
    _compare(world, "--gpus", asked.gpus, "1", ": each task has one rank")
    count, local_rank = world.local_size or 1, world.local_rank or 0
    if machine is None or machines is None:  # each task is shown as a machine of its own
        machine, machines = world.rank, world.size
    return replace(asked, nodes=world.size, task=LocalTask(local_rank, count, machine, machines or 1))


def _machine(world: StartedWorld) -> tuple[int | None, int | None]:
    """Return which machine this is, and how many there are; from the tasks' numbers where these go by blocks."""
    size, count = world.size or 1, world.local_size or 1
    if world.node is not None and world.nodes is not None:
        return world.node, world.nodes
    if size % count == 0 and world.rank % count == world.local_rank:
        return world.rank // count, size // count
    return world.node, world.nodes


def _compare(world: StartedWorld, option: str, asked: object, real: object, why: str = "") -> None:
    if asked is not None and asked != real:
        says = f"says {real}" if real is not None else "does not tell"
        raise ForeignWorldError(f"{option} {asked}, and {world} {says}{why}", f"leave {option} out")


def _run_name(world: StartedWorld) -> str | None:
    """Return a name that all tasks make up alike; None where the starter gives them nothing in common."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", world.job)[:_LONGEST_NAME].lstrip("._-") or None


def _start(world: StartedWorld, environment: Mapping[str, str]) -> str:
    """Return what all tasks of this start know, and those of no other."""
    names = ("PMIX_NAMESPACE", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")
    return " ".join([world.starter, world.job, *(environment.get(name, "") for name in names)])


def _note(world: StartedWorld) -> str:
    several = f"{world.local_size or 1} of them on this machine"
    here = several if world.shares_machines else "one on each machine"
    return f"note: {world} started {world.size} tasks, {here}; they are one world"

"""NUMA: which CPUs lie near which GPU, and the CPUs that each rank keeps to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

CPUS = "LOCKSTEP_CPUS"
"""In the ranks' environment: one list of CPUs for each local rank, separated by semicolons."""
_SYSTEM = Path("/sys")


def read_nodes(cpus: Sequence[int], system: Path = _SYSTEM) -> dict[int, tuple[int, ...]]:
    """Map NUMA nodes to those of ``cpus`` in them, the threads of a core side by side; nodes without one are left out.

    Args:
        cpus: that this process may use.
        system: the root of sysfs.
    """
    nodes = {}
    for folder in (system / "devices/system/node").glob("node[0-9]*"):
        with suppress(OSError, ValueError):
            near = set(cpus) & set(parse_cpus((folder / "cpulist").read_text()))
            if near:
                nodes[int(folder.name[4:])] = tuple(sorted(near, key=lambda cpu: (_core(cpu, system), cpu)))
    return dict(sorted(nodes.items()))


def _core(cpu: int, system: Path) -> int:
    """Return the first of the threads that share a core: ranks then do not get one thread each of the same core."""
    topology = system / f"devices/system/cpu/cpu{cpu}/topology"
    with suppress(OSError, ValueError, IndexError):
        return parse_cpus((topology / "thread_siblings_list").read_text())[0]
    return cpu


def node_of_device(pci: str, system: Path = _SYSTEM) -> int | None:
    """Return the NUMA node of a PCI device such as ``0000:3b:00.0``; None where the machine does not say."""
    with suppress(OSError, ValueError):
        node = int((system / "bus/pci/devices" / pci / "numa_node").read_text())
        return node if node >= 0 else None
    return None


def share_cpus(
    nodes: Mapping[int, tuple[int, ...]], wanted: Sequence[int | None], threads: int
) -> tuple[tuple[int, ...], ...]:
    """Return the CPUs of each rank: its node's, divided among the node's ranks; nothing where nothing is to be bound.

    A rank whose part would be smaller than its threads keeps to the whole node; where even that is smaller, no
    rank is bound: threads that wait for each other cost more than memory that is far away.

    Args:
        nodes: node to the CPUs in it.
        wanted: for each rank the node of its GPU; None where it is unknown.
        threads: of each rank.
    """
    known = [node for node in wanted if node is not None and node in nodes]
    if len(nodes) < 2 or len(known) < len(wanted):  # noqa: PLR2004 - one node: everything is near
        return ()
    ranks, taken, sets = Counter(known), Counter[int](), []
    for node in known:
        cpus, position = nodes[node], taken[node]
        taken[node] += 1
        first, last = (len(cpus) * (position + more) // ranks[node] for more in (0, 1))
        sets.append(cpus[first:last] if last - first >= threads else cpus)
    return tuple(sets) if all(len(cpus) >= threads for cpus in sets) else ()


def spread_ranks(nodes: Mapping[int, tuple[int, ...]], processes: int) -> list[int | None]:
    """Return a node for each of the ranks without a GPU: blocks of neighbours where they divide evenly, else none."""
    if not nodes or processes % len(nodes):
        return [None] * processes
    return [node for node in nodes for _ in range(processes // len(nodes))]


def to_variable(sets: Sequence[Sequence[int]]) -> str:
    """Return the value of ``LOCKSTEP_CPUS``."""
    return ";".join(format_cpus(cpus) for cpus in sets)


def bind_rank(local_rank: int) -> None:
    """Keep this process, and the threads and processes that it starts from now on, to its CPUs."""
    sets = os.environ.get(CPUS, "").split(";")
    if local_rank < len(sets) and sets[local_rank]:
        with suppress(
            OSError, ValueError
        ):  # the CPUs were taken away meanwhile: anywhere is better than nowhere
            os.sched_setaffinity(0, parse_cpus(sets[local_rank]))


def parse_cpus(text: str) -> list[int]:
    """Parse ``0-2,8``, as the kernel writes it."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def format_cpus(cpus: Sequence[int]) -> str:
    """Format as ``0-2,8``, as the kernel writes it."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and parts[-1][-1] == cpu - 1:
            parts[-1][1:] = [cpu]
        else:
            parts.append([cpu])
    return ",".join("-".join(map(str, part)) for part in parts)

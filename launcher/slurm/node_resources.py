"""What a partition's nodes have, whether they can be used at the moment or not, and what a job needs of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FORM = "%R|%N|%c|%m|%G|%T|%E"
"""Of ``sinfo -N``: a node's reason is free text, and so the last."""
_READY = ("idle", "allocated", "mixed", "completing", "planned")
_FLAGS = "*~#!%$@^+-"  # behind a state: powered down, in a reservation and so on
_MIB = {"K": 2**-10, "M": 1, "G": 2**10, "T": 2**20}
_MOST_NAMED = 3


@dataclass(frozen=True)
class ClusterNode:
    """One node of one partition."""

    partition: str
    name: str
    cpus: int
    memory: int
    """MiB."""
    gpus: int
    state: str
    """``idle``, ``drained``, ``maint``, … in sinfo's long form, without its flags."""
    reason: str
    """Why an administrator has taken it away; ``none``."""


@dataclass(frozen=True)
class NodeRequirements:
    """The resources that a job asks of a partition; all but ``nodes`` on each node."""

    partitions: Sequence[Mapping[str, str]] = field(default=())
    """Those that will do, in scontrol's words."""
    nodes: int = 1
    cpus: int = 0
    gpus: int = 0
    memory: str = ""
    """``64G``; nothing is all that there is."""

    @property
    def names(self) -> list[str]:
        """The partitions' names."""
        return [part["PartitionName"] for part in self.partitions]

    def fits(self, nodes: Sequence[ClusterNode]) -> bool:
        """Check whether one of the partitions could hold the job if all of its nodes were free and healthy."""
        enough = [node.partition for node in nodes if self._fits(node)]
        return any(enough.count(name) >= self.nodes for name in self.names)

    def _fits(self, node: ClusterNode) -> bool:
        memory = float(self.memory[:-1]) * _MIB[self.memory[-1]] if self.memory[:-1] else 0
        return node.cpus >= self.cpus and node.gpus >= self.gpus and node.memory >= memory


def parse_nodes(text: str) -> list[ClusterNode]:
    """Parse the lines that sinfo prints with ``FORM``."""
    rows = [line.split("|", 6) for line in text.splitlines() if line.count("|") >= FORM.count("|")]
    return [
        ClusterNode(
            part, name, _number(cpus), _number(memory), _gpus(gres), state.rstrip(_FLAGS), reason.strip()
        )
        for part, name, cpus, memory, gres, state, reason in rows
    ]


def explain_queue_wait(nodes: Sequence[ClusterNode], words: str) -> str:
    """Explain why a job that would fit may not start soon.

    Args:
        nodes: of its partitions.
        words: what SLURM says about it.
    """
    away = {node.name: node for node in nodes if node.state not in _READY}
    named = [_away(node) for node in list(away.values())[:_MOST_NAMED]]
    more = len(away) - len(named)
    cause = ", ".join(named) + f" and {more} more" * bool(more) or "nodes may be reserved"
    return f"SLURM sees no place for the job at the moment ({words}): {cause}; it may have to wait"


def _away(node: ClusterNode) -> str:
    return f"{node.name} is {node.state}" + (f" ({node.reason})" if node.reason not in ("", "none") else "")


def _number(text: str) -> int:
    return int(text.rstrip("+"))


def _gpus(gres: str) -> int:
    return sum(map(int, re.findall(r"\bgpu(?::[A-Za-z][^:,()]*)?:(\d+)", gres)))

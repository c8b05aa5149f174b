"""What the nodes of a launch have agreed on when they met."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NodeLayout:
    """The layout that the nodes have agreed on."""

    run: str
    processes: tuple[int, ...]
    """Of each node."""
    address: str
    """Of node 0, on the interface that all of them use."""
    hosts: tuple[str, ...]
    shared: bool
    """Whether every node sees the same run folder."""

    def ranks_of(self, node: int) -> range:
        """Return the ranks of a node."""
        first = sum(self.processes[:node])
        return range(first, first + self.processes[node])

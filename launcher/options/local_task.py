"""The place of a launch that shares its machine with others of the same world."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LocalTask:
    """One of several tasks that another starter has started on this machine; it supervises a single rank."""

    rank: int
    """Among the tasks of this machine: the local rank of its rank."""
    count: int
    """Number of tasks on this machine."""
    node: int
    """Which of the machines this one is."""
    nodes: int
    """Number of machines."""

"""Which of several nodes this one is, and where they meet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Nodes:
    """A launch over several machines, each of which was given the same command but for its rank."""

    count: int = 1
    rank: int = 0
    """Of this node; node 0 decides."""
    rendezvous: str = ""
    """``HOST:PORT``: an address of node 0, and the only interface that anything listens on."""
    timeout: float = 30.0
    """Seconds of silence after which another node counts as lost."""

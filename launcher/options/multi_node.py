"""Which of several nodes this one is, and where they meet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...data.common import UsageError
from .local_task import LocalTask

_PORTS = range(1, 65_536)


def place_text(host: str, port: int | str) -> str:
    """Write ``HOST:PORT``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True)
class NodeOptions:
    """A launch over several machines, each of which was given the same command but for its rank."""

    count: int = 1
    rank: int = 0
    """Of this node; node 0 decides."""
    rendezvous: str = ""
    """``HOST:PORT``: an address of node 0, and the only one that it listens on. Empty: the run folder, which all
    share, tells where node 0 is."""
    timeout: float = 30.0
    """Seconds of silence after which another node counts as lost."""
    task: LocalTask | None = None
    """Where this "node" is one of several tasks on its machine."""
    start: str = ""
    """What all nodes know of their common start, and no other start has; empty where they were started by hand."""
    refusal: Path | None = None
    """File in which node 0 says why it ends before they have met, where nobody sits at it to tell the others."""

    @property
    def is_leader(self) -> bool:
        """Whether this is node 0."""
        return self.rank == 0

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: it does not.
        """
        if self.rank >= self.count:
            what = f"--node-rank {self.rank}: there are {self.count} nodes, counted from 0"
            raise UsageError(what, f"use 0 to {self.count - 1}, or say --nodes N on every node")
        if self.rendezvous and self.count == 1:
            raise UsageError(
                f"--rendezvous {self.rendezvous}: there is one node alone", "say --nodes N on every node"
            )
        if self.rendezvous:
            self.address()

    def address(self) -> tuple[str, int]:
        """Return host and port of ``rendezvous``.

        Raises:
            UsageError: it is not a ``HOST:PORT``.
        """
        host, _, port = self.rendezvous.rpartition(":")
        if not host or not (port.isascii() and port.isdigit() and int(port) in _PORTS):
            raise UsageError(
                f"--rendezvous {self.rendezvous}: not HOST:PORT",
                "give an address of node 0 and a free port of it, as 10.0.0.1:29400",
            )
        return host.strip("[]"), int(port)

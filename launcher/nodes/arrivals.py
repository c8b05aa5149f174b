"""The nodes that have proven to node 0 that they know the secret: who they are, and whether they are admitted."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ...data.common import LockstepError, UsageError
from ..console import print_messages
from ..options import NodeOptions
from .peer_link import PeerLink

_HELLO_SECONDS = 5.0
_WRONG_MESSAGE = (KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class Hello:
    """A node's introduction of itself, once it has proven that it knows the secret."""

    node: int
    nodes: int
    about: dict[str, Any]
    processes: int
    host: str
    word: str
    probe: tuple[str, int]

    @classmethod
    def of(cls, message: dict[str, Any]) -> Hello:
        """Take it from a message, which another version may have written."""
        host, port = message["probe"]
        return cls(
            node=int(message["node"]),
            nodes=int(message["nodes"]),
            about=dict(message["about"]),
            processes=int(message["processes"]),
            host=str(message["host"]),
            word=str(message["word"]),
            probe=(str(host), int(port)),
        )


class Arrivals:
    """The nodes that have proven who they are: those that introduce themselves, and those that are admitted.

    Args:
        nodes: of the launch.
        about: what has to be the same on every node.
    """

    def __init__(self, nodes: NodeOptions, about: dict[str, Any]) -> None:
        self.links: dict[int, PeerLink] = {}
        self.hellos: dict[int, Hello] = {}
        self._nodes = nodes
        self._about = about
        self._silent: dict[PeerLink, float] = {}

    def hear(self, arrived: list[PeerLink]) -> None:
        """Hear those who have just come, and those who have been there; who has gone is missing again."""
        deadline = time.monotonic() + _HELLO_SECONDS
        self._silent |= dict.fromkeys(arrived, deadline)
        for link, until in list(self._silent.items()):
            message = link.take("hello")
            if message is not None or link.closed or time.monotonic() > until:
                del self._silent[link]
                self._meet(link, message)
        for node in [node for node, link in self.links.items() if link.take("hello") or link.closed]:
            link = self.links.pop(node)
            link.close()
            print_messages(
                [f"note: node {node} ({self.hellos.pop(node).host}) went away again: {link.closed}"]
            )

    def close(self) -> None:
        """End the links to those who were not admitted in the meantime."""
        for link in self._silent:
            link.close()

    def _meet(self, link: PeerLink, message: dict[str, Any] | None) -> None:
        if message is None:
            link.close()
            return
        try:
            hello = Hello.of(message)
            wrong = self._why_refused(hello)
        except _WRONG_MESSAGE:
            wrong = "it says who it is in a way that this version does not know"
        if wrong:
            refuse_node(link, UsageError(f"node 0 has refused this node: {wrong}", "start it anew"))
            return
        self.links[hello.node], self.hellos[hello.node] = link, hello

    def _why_refused(self, hello: Hello) -> str:
        node, count = hello.node, self._nodes.count
        if hello.nodes != count or not 0 < node < count:
            return f"it is node {node} of {hello.nodes}, and this launch has {count}"
        if node in self.links:
            there = self.hellos[node].host
            return f"node {node} is there already ({there}): each needs a --node-rank of its own"
        if hello.about != self._about:
            return f"it would start {hello.about}, and node 0 starts {self._about}"
        return ""


def refuse_node(link: PeerLink, error: LockstepError) -> None:
    """Tell another node why the launch is over, and end the link."""
    link.send("end", error=error.to_json(), exit_code=error.exit_status)
    link.close()

"""A node other than node 0: it does what node 0 says, and ends when that is gone."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from ...data.common import LockstepError, RankLostError
from ..console import print_failure_card, print_messages
from ..failures import AttemptEnd, InterruptedRunError
from ..machine import World
from ..options import NodeOptions
from .leader import launch_signature
from .node_layout import NodeLayout
from .peer_link import PeerLink
from .peers import FollowerPeers
from .rendezvous import await_message, error_from_message, join_leader
from .starter import tell_starter

_FOLDER_SECONDS = 60.0  # shared storage may show a new folder late
_LAST_WORD_SECONDS = 30.0


class FollowerSession:
    """This node, once it has met node 0.

    Args:
        link: to node 0.
        node_layout: of all nodes.
        nodes: which of them this is.
        world: of this node.
    """

    def __init__(self, link: PeerLink, node_layout: NodeLayout, nodes: NodeOptions, world: World) -> None:
        self.link = link
        self.layout = node_layout
        self.world = replace(world, nodes=node_layout.processes, node=nodes.rank)
        self.peers = FollowerPeers(link, node_layout, nodes.rank, nodes.timeout)

    def prepare_data(self, fingerprint: Callable[[], str]) -> None:
        """Prepare the data when node 0 says so, and tell it what it is."""
        await_message(self.link, "prepare")
        host = socket.gethostname()
        try:
            self.peers.send("prepared", host=host, fingerprint=fingerprint())
        except LockstepError as error:
            self.peers.send("prepared", host=host, error=error.message)
            raise

    def report_end(self, end: AttemptEnd) -> int:
        """Tell what node 0 says of the end, or that it is gone; return the exit status."""
        error, status = self._final_word_of_leader(end)
        if error is not None:
            print_failure_card(error)
        elif status:
            print_messages([f"ended as node 0 did, with status {status}"])
        return status

    def _final_word_of_leader(self, end: AttemptEnd) -> tuple[LockstepError | None, int]:
        if end.signal is not None:
            interrupted = InterruptedRunError(end.signal)
            return interrupted, interrupted.exit_status
        last_word = dict(end.leader_message or {}) or {"kind": "agent"}
        deadline = time.monotonic() + _LAST_WORD_SECONDS
        while last_word.get("kind") == "kill" and time.monotonic() < deadline:
            last_word = next((m for m in self.link.receive() if m["kind"] == "end"), last_word)
            if self.link.closed and last_word.get("kind") == "kill":
                last_word = {"lost": self.link.closed}
            time.sleep(0.01)
        if last_word.get("kind") == "end":
            status = int(last_word["exit_code"])
            return (error_from_message(last_word) if last_word["error"] else None), status
        why = last_word.get("lost") or "the agent, which starts the ranks, ended"
        lost = RankLostError(
            f"node 0 ({self.layout.hosts[0]}, {self.layout.address}) was lost: {why}; exit status 4",
            "look at that machine and the network",
        )
        return (lost if "lost" in last_word else RankLostError(f"{why}; exit status 4", "see agent.log")), 4


@contextmanager
def join_as_follower(
    nodes: NodeOptions, find: Callable[[], Path | None], kind: str, world: World
) -> Iterator[FollowerSession]:
    """Meet node 0; the link is closed when the block is left.

    Args:
        nodes: which node this is.
        find: the run folder, if this node sees it yet.
        kind: ``train`` or ``run``.
        world: of this node.
    """
    link, node_layout = join_leader(nodes, find, launch_signature(kind, world), world.processes)
    tell_starter()
    node = FollowerSession(link, node_layout, nodes, world)
    ranks = node_layout.ranks_of(nodes.rank)
    which = f"node {nodes.rank} of {nodes.count}, ranks {ranks[0]} to {ranks[-1]}"
    print_messages([f"{node_layout.run}: {which}; node 0 is {node_layout.hosts[0]}"])
    try:
        yield node
    finally:
        node.peers.close()


def wait_until_visible(folder: Path) -> Path:
    """Wait until this node sees a folder that node 0 has made.

    Raises:
        LockstepError: it does not come.
    """
    deadline = time.monotonic() + _FOLDER_SECONDS
    while not folder.is_dir():
        if time.monotonic() > deadline:
            raise RankLostError(
                f"{folder}: node 0 has made it, and this node does not see it", "is it shared?"
            )
        with suppress(OSError):
            list(folder.parent.iterdir())  # has some network file systems look again
        time.sleep(0.1)
    return folder

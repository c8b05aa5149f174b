"""Node 0's way of leading a launch over several nodes, from their meeting to what it tells them of the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ...data.common import DamagedError, LockstepError, RankLostError, UsageError
from ..machine import World
from ..options import NodeOptions
from .arrivals import refuse_node
from .peers import LeaderPeers, SingleNode
from .rendezvous import await_followers
from .starter import tell_starter


def launch_signature(kind: str, world: World) -> dict[str, Any]:
    """Return what has to be the same on every node."""
    return {"kind": kind, "version": sys.modules["lockstep"].__dict__["__version__"], "device": world.device}


class LeaderSession:
    """The messages of node 0 and the others before the ranks start and after they have ended.

    Args:
        world: of this node; of all nodes once they have met.
        peers: the other nodes, if there are any.
    """

    def __init__(self, world: World, peers: SingleNode) -> None:
        self.world = world
        self.peers = peers

    def agree_on_data(self, fingerprint: str) -> None:
        """Have every node prepare its data, now that downloads are done, and see that it is the same.

        Raises:
            LockstepError: one cannot, or has other data.
        """
        if not isinstance(self.peers, LeaderPeers):
            return
        self.peers.send("prepare")
        for node, reply in self.peers.ask("prepared").items():
            if "error" in reply:
                raise DamagedError(f"node {node} ({reply['host']}): {reply['error']}", "see its own words")
            if reply["fingerprint"] != fingerprint:
                raise DamagedError(
                    f"node {node} ({reply['host']}) has another data set than node 0",
                    "let data.root be the same storage on every node",
                )

    def announce_end(self, failure: LockstepError | None, status: int) -> None:
        """Tell the others how it ended."""
        self.peers.send("end", error=None if failure is None else failure.to_json(), exit_code=status)


@contextmanager
def lead_nodes(
    nodes: NodeOptions, folder: Path, kind: str, world: World, *, shared: bool
) -> Iterator[LeaderSession]:
    """Meet the other nodes; they are told of whatever ends the block unexpectedly.

    Args:
        nodes: how many there are.
        folder: of the run.
        kind: ``train`` or ``run``.
        world: of this node.
        shared: whether all have to see the same run folder.
    """
    if nodes.count == 1:
        yield LeaderSession(world, SingleNode())
        return
    links, node_layout = await_followers(nodes, folder, launch_signature(kind, world), world.processes)
    if shared and not node_layout.shared:
        error = UsageError(
            f"not every node sees the run folder {folder}",
            "let LOCKSTEP_RUNS be the same shared storage on every node",
        )
        for link in links.values():
            refuse_node(link, error)
        raise error
    leader = LeaderPeers(links, node_layout, nodes.timeout)
    leader.send("layout", **asdict(node_layout))
    tell_starter()
    session = LeaderSession(replace(world, nodes=node_layout.processes, node=0), leader)
    try:
        yield session
    except LockstepError as error:
        session.announce_end(error, error.exit_status)
        raise
    except BaseException as error:
        session.announce_end(
            RankLostError(f"node 0 ended: {type(error).__name__}", ""), RankLostError.exit_status
        )
        raise
    finally:
        leader.close()

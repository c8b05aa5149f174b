"""The other nodes, as a node's supervisor knows them: none, those that follow it, or the one that it follows.

Node 0 decides every end. The others tell it how their ranks end, and end them when it says so or when it is gone.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...data.common import RankLostError, signal_name
from ...training.rank import HorizonWords
from .node_layout import NodeLayout
from .peer_link import PeerLink

_HEARTBEAT_SECONDS = 1.0
_TAIL_BYTES = 8192
Message = dict[str, Any]
"""What one node tells another; ``kind`` says what about."""


class SingleNode:
    """The only node of a launch: there are no others."""

    is_leader = True
    """Whether this node's supervisor decides about ends."""
    address = "127.0.0.1"
    """Of node 0, where the store of the ranks listens."""
    node, nodes = 0, 1
    lost_node = ""
    """Which node was lost, in words; empty while all are there."""
    leader_message: Message | None = None
    """What node 0 has said of the end, on a node that follows it."""

    @property
    def local_address(self) -> str:
        """This node's address on the interface that the nodes meet on."""
        return self.address

    def known_ranks(self, processes: int) -> range:
        """Return the ranks whose ends this node has to know of, with ``processes`` of its own."""
        return range(processes)

    def links(self) -> Iterator[PeerLink]:
        """Yield the open links, to wait for."""
        return iter(())

    def receive(self) -> Iterator[tuple[int, Message]]:
        """Yield what the others have said since the last call, each with the node that said it."""
        return iter(())

    def report_rank(self, message: Mapping[str, Any], attempt: Path) -> None:
        """Tell node 0 how a rank of this node is doing; nobody where this is node 0."""

    def send(self, kind: str, **values: Any) -> None:
        """Say something to all others."""

    def share_horizon(self, horizon: HorizonWords) -> None:
        """Tell the others how far their ranks may go, if that has changed."""

    def close(self) -> None:
        """End the links."""


class _Heartbeat:
    """A heartbeat from a thread of its own: a node that reads a large checkpoint must not look lost."""

    def __init__(self, links: Callable[[], Iterator[PeerLink]]) -> None:
        self._links = links
        self._over = threading.Event()
        threading.Thread(target=self._beat, name="pulse", daemon=True).start()

    def _beat(self) -> None:
        while not self._over.wait(_HEARTBEAT_SECONDS):
            for link in self._links():
                link.send("ping", sent=time.time_ns())

    def stop(self) -> None:
        self._over.set()


class LeaderPeers(SingleNode):
    """The nodes that follow this one, which is node 0.

    Args:
        links: node to its link.
        node_layout: of all nodes.
        timeout: seconds of silence after which a node counts as lost.
    """

    def __init__(self, links: dict[int, PeerLink], node_layout: NodeLayout, timeout: float) -> None:
        self._links = links
        self._layout = node_layout
        self._timeout = timeout
        self._heartbeat = _Heartbeat(self.links)
        self.address = node_layout.address
        self.nodes = len(node_layout.processes)
        self._shared: HorizonWords | None = None
        self._attempt = ""

    def known_ranks(self, processes: int) -> range:  # noqa: ARG002 - of all nodes, this one among them
        """Return all ranks."""
        return range(sum(self._layout.processes))

    def links(self) -> Iterator[PeerLink]:
        """Yield the open links."""
        return iter([link for link in self._links.values() if not link.closed])

    def send(self, kind: str, **values: Any) -> None:
        """Say something to all others."""
        self._attempt = values.get("attempt", self._attempt)
        for link in self.links():
            link.send(kind, **values)

    def receive(self) -> Iterator[tuple[int, Message]]:
        """Yield what the others have said, but no progress of an earlier attempt; notice which of them is gone."""
        for node, link in self._links.items():
            for message in link.receive():
                if message["kind"] == "ping":
                    link.send("pong", sent=message["sent"], now=time.time_ns())
                elif message["kind"] != "progress" or message["attempt"] == self._attempt:
                    yield node, {**message, "host": self._layout.hosts[node]}
            if why := self._why_lost(link):
                self.lost_node = self.lost_node or self._lost_in_words(node, why)

    def first_rank(self, node: int) -> int:
        """Return the lowest rank of a node."""
        return self._layout.ranks_of(node)[0]

    def _why_lost(self, link: PeerLink) -> str:
        if link.closed:
            return link.closed
        return f"no word from it for {self._timeout:g} s" if link.silence > self._timeout else ""

    def _lost_in_words(self, node: int, why: str) -> str:
        ranks = self._layout.ranks_of(node)
        which = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
        return f"node {node} ({self._layout.hosts[node]}, {which}) was lost: {why}"

    def ask(self, kind: str) -> dict[int, Message]:
        """Wait until every other node has answered with ``kind``, before the ranks have started.

        Raises:
            RankLostError: one is gone instead.
        """
        replies: dict[int, Message] = {}
        while len(replies) < len(self._links):
            replies |= {node: message for node, message in self.receive() if message["kind"] == kind}
            if self.lost_node:
                raise RankLostError(self.lost_node, "look at that machine and the network")
            time.sleep(0.01)
        return replies

    def share_horizon(self, horizon: HorizonWords) -> None:
        """Tell the others how far their ranks may go, if that has changed."""
        if horizon != self._shared:
            self._shared = horizon
            step, checkpoint_at, final, evaluate_at = horizon
            self.send(
                "horizon", horizon=step, checkpoint_at=checkpoint_at, final=final, evaluate_at=evaluate_at
            )

    def close(self) -> None:
        """End the links, after what is still to be said."""
        self._heartbeat.stop()
        for link in self._links.values():
            link.close()


class FollowerPeers(SingleNode):
    """Node 0, as a node that follows it knows it.

    Args:
        link: to node 0.
        node_layout: of all nodes.
        node: which of them this is.
        timeout: seconds of silence after which node 0 counts as lost.
    """

    is_leader = False

    def __init__(self, link: PeerLink, node_layout: NodeLayout, node: int, timeout: float) -> None:
        self._link = link
        self._own = link.local_address
        self._layout = node_layout
        self._timeout = timeout
        self._asked_to_stop = False
        self._best_clock_sample: tuple[int, int] | None = None
        self._heartbeat = _Heartbeat(self.links)
        self.address = node_layout.address
        self.node, self.nodes = node, len(node_layout.processes)

    @property
    def local_address(self) -> str:
        """This node's end of the link."""
        return self._own

    def known_ranks(self, processes: int) -> range:  # noqa: ARG002 - as the nodes have agreed
        """Return the ranks of this node."""
        return self._layout.ranks_of(self.node)

    def links(self) -> Iterator[PeerLink]:
        """Yield the link to node 0, while it is open."""
        return iter([] if self._link.closed else [self._link])

    def send(self, kind: str, **values: Any) -> None:
        """Say something to node 0."""
        self._link.send(kind, **values)

    def receive(self) -> Iterator[tuple[int, Message]]:
        """Yield what node 0 orders; notice its word about the end, and that it is gone."""
        for message in self._link.receive():
            kind = message["kind"]
            if kind == "pong":
                self._update_clock_offset(message["sent"], message["now"])
            elif kind == "end" or (kind == "kill" and self.leader_message is None):
                self.leader_message = message
            elif kind not in ("ping", "kill"):
                yield 0, message
        why = self._link.closed
        if not why and self._link.silence > self._timeout:
            why = f"no word from it for {self._timeout:g} s"
        if why and self.leader_message is None:
            self.leader_message = {"lost": why}

    def _update_clock_offset(self, sent: int, now: int) -> None:
        """Estimate how far node 0's clock is ahead of this one's: as the quickest answer tells it."""
        took = time.time_ns() - sent
        if self._best_clock_sample is None or took < self._best_clock_sample[0]:
            self._best_clock_sample = took, now - (sent + took // 2)

    @property
    def clock_offset_ns(self) -> int:
        """Nanoseconds that node 0's clock is ahead of this one's."""
        return self._best_clock_sample[1] if self._best_clock_sample else 0

    def pass_signal(self, number: int) -> bool:
        """Ask node 0 to stop, which decides; False for a second interrupt, which ends this node at once."""
        if self._asked_to_stop:
            return number != signal.SIGINT
        self._asked_to_stop = True
        self.send("stop", by=signal_name(number))
        return True

    def report_rank(self, message: Mapping[str, Any], attempt: Path) -> None:
        """Tell node 0 of a rank, with the rank's own account where it ended badly, in node 0's time."""
        report = dict(message)
        if report["kind"] == "ended":
            report["time_ns"] = time.time_ns() + self.clock_offset_ns
            if report["status"]:
                report |= self._account(attempt, report["rank"])
        if report["kind"] == "error":
            report["account"] = {
                **report["account"],
                "time_ns": report["account"]["time_ns"] + self.clock_offset_ns,
            }
        if report["kind"] in ("started", "done", "ended", "error"):
            self._link.send("rank", message=report)

    def _account(self, attempt: Path, rank: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            account = json.loads((attempt / f"error-{rank}.json").read_text(encoding="utf-8"))
            account["time_ns"] += self.clock_offset_ns
            found["account"] = account
        with suppress(OSError), (attempt / f"rank-{rank}.log").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            found["tail"] = file.read().decode(errors="replace")
        return found

    def close(self) -> None:
        """End the link."""
        self._heartbeat.stop()
        self._link.close()

"""The other nodes, as a node's supervisor knows them: nobody, those that follow it, or the one that it follows.

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
from typing import Any, Protocol

from ...data.common import RankLostError
from ..failures import Ending
from .node_layout import NodeLayout
from .peer_link import PeerLink

_HEARTBEAT_SECONDS = 1.0
_TAIL_BYTES = 8192
Told = Callable[[dict[str, Any]], None]


class RankController(Protocol):
    """What the other nodes may ask of a supervisor."""

    ending: Ending

    def end_ranks(self) -> bool:
        """Kill the ranks of this node."""

    def ask_to_end(self, grace: float) -> None:
        """SIGTERM to the ranks of this node."""

    def hear(self, message: dict[str, Any]) -> None:
        """Take what another node says of its ranks."""


class SingleNode:
    """There are no other nodes."""

    decides = True
    """Whether this node's supervisor decides about ends."""
    address = "127.0.0.1"
    """Of node 0, where the store of the ranks listens."""
    node, nodes = 0, 1

    @property
    def own(self) -> str:
        """This node's address on the interface that the nodes meet on."""
        return self.address

    def total(self, processes: int) -> int:
        """Ranks whose ends this node has to know of, with ``processes`` of its own."""
        return processes

    def links(self) -> Iterator[PeerLink]:
        """To wait for."""
        return iter(())

    def poll(self, supervisor: RankController) -> None:
        """Take what the others have said."""

    def pass_on(self, message: Mapping[str, Any], attempt: Path) -> None:
        """Tell the others how a rank of this node is doing."""

    def tell(self, kind: str, **values: Any) -> None:
        """Say something to all others."""


class _Heartbeat:
    """A word every second from a thread of its own: reading a large checkpoint must not look like a lost node."""

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
    """Node 0's side.

    Args:
        links: node to its link.
        layout: of all nodes.
        timeout: seconds of silence after which a node counts as lost.
    """

    def __init__(self, links: dict[int, PeerLink], layout: NodeLayout, timeout: float) -> None:
        self._links = links
        self._layout = layout
        self._timeout = timeout
        self._heartbeat = _Heartbeat(self.links)
        self.address = layout.address
        self.nodes = len(layout.processes)
        self.on_progress: Callable[[int, list[list[int]]], None] = lambda _, __: None
        """Told of the first rank and (step, phase, milliseconds since its last word) of each rank of a node."""
        self.on_stop: Callable[[str], None] = lambda _: None
        """Told that another node was asked to stop, and by whom."""
        self.on_rank_evidence: Callable[[int, dict[str, Any]], None] = lambda _, __: None
        """Told of what a node says about ranks that stand still."""
        self._replies: dict[int, dict[str, Any]] = {}
        self._shared: tuple[int, int, bool] | None = None
        self._attempt = ""

    def total(self, processes: int) -> int:  # noqa: ARG002 - of all nodes, this one among them
        """All ranks."""
        return sum(self._layout.processes)

    def links(self) -> Iterator[PeerLink]:
        """That are open."""
        return iter([link for link in self._links.values() if not link.closed])

    def tell(self, kind: str, **values: Any) -> None:
        """Say something to all others."""
        self._attempt = values.get("attempt", self._attempt)
        for link in self.links():
            link.send(kind, **values)

    def poll(self, supervisor: RankController) -> None:
        """Take what the others say; a node that is gone ends the attempt."""
        for node, link in self._links.items():
            for message in link.receive():
                self._hear(node, message, supervisor)
            if why := self._lost(link):
                supervisor.ending.lost_node = supervisor.ending.lost_node or self._words(node, why)

    def _lost(self, link: PeerLink) -> str:
        if link.closed:
            return link.closed
        return f"no word from it for {self._timeout:g} s" if link.silence > self._timeout else ""

    def _words(self, node: int, why: str) -> str:
        ranks = self._layout.ranks_of(node)
        which = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
        return f"node {node} ({self._layout.hosts[node]}, {which}) was lost: {why}"

    def _hear(self, node: int, message: dict[str, Any], supervisor: RankController) -> None:
        kind = message["kind"]
        if kind == "rank":
            supervisor.hear({**message["message"], "host": self._layout.hosts[node]})
        elif kind == "progress":
            if message["attempt"] == self._attempt:  # not of the one before
                self.on_progress(self._layout.ranks_of(node)[0], message["ranks"])
        elif kind in ("standing", "evidence"):
            self.on_rank_evidence(node, {**message, "host": self._layout.hosts[node]})
        elif kind == "stop":
            self.on_stop(f"{message['by']} on node {node}")
        else:
            self._answer(node, message)

    def _answer(self, node: int, message: dict[str, Any]) -> None:
        if message["kind"] == "ping":
            self._links[node].send("pong", sent=message["sent"], now=time.time_ns())
        else:
            self._replies[node] = message

    def ask(self, kind: str) -> dict[int, dict[str, Any]]:
        """Wait until every other node has answered with ``kind``, before the ranks have started.

        Raises:
            RankLostError: one is gone instead.
        """
        while any(self._replies.get(node, {}).get("kind") != kind for node in self._links):
            for node, link in self._links.items():
                for message in link.receive():
                    self._answer(node, message)
                if why := self._lost(link):
                    raise RankLostError(self._words(node, why), "look at that machine and the network")
            time.sleep(0.01)
        found, self._replies = self._replies, {}
        return found

    def share(self, words: tuple[int, int, bool]) -> None:
        """Tell the others how far their ranks may go, if that has changed."""
        if words != self._shared:
            self._shared = words
            horizon, checkpoint_at, final = words
            self.tell("horizon", horizon=horizon, checkpoint_at=checkpoint_at, final=final)

    def close(self) -> None:
        """End the links, after what is still to be said."""
        self._heartbeat.stop()
        for link in self._links.values():
            link.close()


class FollowerPeers(SingleNode):
    """Another node's side.

    Args:
        link: to node 0.
        layout: of all nodes.
        node: which of them this is.
        timeout: seconds of silence after which node 0 counts as lost.
    """

    decides = False

    def __init__(self, link: PeerLink, layout: NodeLayout, node: int, timeout: float) -> None:
        self._link = link
        self._own = link.own
        self._timeout = timeout
        self._asked = False
        self._best_clock_sample: tuple[int, int] | None = None
        self._heartbeat = _Heartbeat(self.links)
        self.address = layout.address
        self.node, self.nodes = node, len(layout.processes)
        self.commands: dict[str, Told] = {}
        """What to do about what node 0 says, by kind."""

    @property
    def own(self) -> str:
        """This node's end of the link."""
        return self._own

    def links(self) -> Iterator[PeerLink]:
        """To node 0, while it is open."""
        return iter([] if self._link.closed else [self._link])

    def tell(self, kind: str, **values: Any) -> None:
        """Say something to node 0."""
        self._link.send(kind, **values)

    def poll(self, supervisor: RankController) -> None:
        """Do what node 0 says; without it everything ends here."""
        for message in self._link.receive():
            self._obey(message, supervisor)
        why = self._link.closed
        if not why and self._link.silence > self._timeout:
            why = f"no word from it for {self._timeout:g} s"
        if why and supervisor.ending.told is None:
            supervisor.ending.told = {"lost": why}

    def _obey(self, message: dict[str, Any], supervisor: RankController) -> None:
        kind = message["kind"]
        if kind == "ping":
            return
        if kind == "pong":
            self._measure(message["sent"], message["now"])
        elif kind in ("kill", "end"):
            if supervisor.ending.told is None or kind == "end":
                supervisor.ending.told = message
        elif kind == "end_ranks":
            supervisor.end_ranks()
        elif kind == "terminate":
            supervisor.ask_to_end(message["grace"])
        elif kind in self.commands:
            self.commands[kind](message)

    def _measure(self, sent: int, now: int) -> None:
        """How far node 0's clock is ahead of this one's: as the quickest answer tells it."""
        took = time.time_ns() - sent
        if self._best_clock_sample is None or took < self._best_clock_sample[0]:
            self._best_clock_sample = took, now - (sent + took // 2)

    @property
    def offset(self) -> int:
        """Nanoseconds that node 0's clock is ahead of this one's."""
        return self._best_clock_sample[1] if self._best_clock_sample else 0

    def signalled(self, number: int) -> bool:
        """A signal asks to stop, which node 0 decides; False for a second interrupt, which ends this node at once."""
        if self._asked:
            return number != signal.SIGINT
        self._asked = True
        self.tell("stop", by=signal.Signals(number).name)
        return True

    def pass_on(self, message: Mapping[str, Any], attempt: Path) -> None:
        """Tell node 0 of a rank, with the rank's own account where it ended badly, in node 0's time."""
        told = dict(message)
        if told["kind"] == "ended":
            told["time_ns"] = time.time_ns() + self.offset
            if told["status"]:
                told |= self._account(attempt, told["rank"])
        if told["kind"] in ("started", "done", "ended"):
            self._link.send("rank", message=told)

    def _account(self, attempt: Path, rank: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            account = json.loads((attempt / f"error-{rank}.json").read_text(encoding="utf-8"))
            account["time_ns"] += self.offset
            found["account"] = account
        with suppress(OSError), (attempt / f"rank-{rank}.log").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
            found["tail"] = file.read().decode(errors="replace")
        return found

    def close(self) -> None:
        """End the link."""
        self._heartbeat.stop()
        self._link.close()

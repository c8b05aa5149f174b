"""When nothing moves on any node: all ranks are looked at, node 0 judges, and says so.

Each node watches its own ranks and tells node 0 when they have come to a standstill. Only when all have does node 0
ask for what they are at; the answers travel as plain values over the link that the nodes have anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from typing import Any

from ...data.common import HangError
from ..nodes import SingleNode
from .progress_times import HangLimit
from .rank_evidence import HangVerdict, RankEvidence
from .rank_monitor import Activity, RankMonitor
from .report import hang_error, hang_warning
from .verdict import judge_program, judge_training

_ANSWER_SECONDS = 10.0  # of another node; one that takes longer is lost, or is asked again


class HangCoordinator:
    """The judge of hangs in one attempt, on node 0 or the only node.

    Args:
        rank_monitor: of this node's ranks.
        world_size: ranks in all.
        peers: the other nodes.
        training: whether the ranks say how far they are.
        warn: called with a message about what may become a hang.
        limit: the silence that counts as a hang, now.
    """

    def __init__(
        self,
        rank_monitor: RankMonitor,
        world_size: int,
        peers: SingleNode,
        *,
        training: bool,
        warn: Callable[[str], None],
        limit: Callable[[], HangLimit],
    ) -> None:
        self._rank_monitor = rank_monitor
        self._world_size = world_size
        self._peers = peers
        self._judge = judge_training if training else judge_program
        self._possible = training or world_size > 1  # a program's one rank waits for nobody
        self._warn = warn
        self._limit = limit
        self._warned: list[tuple[int, str]] = []
        self._activity_by_node: dict[int, Activity] = {}
        self._number = 0
        self._asked: float | None = None
        self._evidence_by_node: dict[int, list[RankEvidence]] = {}
        self._next = 0.0

    def find_hang(self, pids: Mapping[int, int], ended: Container[int]) -> HangError | None:
        """Look at the ranks, and judge them where nothing moves; the hang, once it is certain.

        Args:
            pids: rank to process of this node's ranks that have started.
            ended: ranks that have ended since.
        """
        self._share_limit()
        self._rank_monitor.tick(pids, ended)
        if self._asked is not None:
            return self._collect()
        if self._rank_monitor.now >= self._next and self._is_suspicious():
            self._ask()
        return None

    def hear(self, node: int, message: dict[str, Any]) -> None:
        """Take what another node says of its ranks."""
        if message["attempt"] != self._rank_monitor.attempt.name:
            return
        if message["kind"] == "standing":
            self._activity_by_node[node] = message["standing"]
        elif message["number"] == self._number:
            found = (RankEvidence.from_json(document) for document in message["ranks"])
            self._evidence_by_node[node] = [replace(evidence, host=message["host"]) for evidence in found]

    def _share_limit(self) -> None:
        """Let every node look at its ranks after the silence that counts now."""
        limit = self._limit().seconds
        if limit != self._rank_monitor.limit:
            self._rank_monitor.take_limit(limit)
            self._peers.send("hang limit", seconds=limit)

    def _is_suspicious(self) -> bool:
        """Tell whether it is worth asking for stacks, on every node."""
        all_said = len(self._activity_by_node) == self._peers.nodes - 1
        standing = {self._rank_monitor.activity, *self._activity_by_node.values()}
        return self._possible and all_said and "still" in standing and "moving" not in standing

    def _ask(self) -> None:
        self._asked, self._evidence_by_node = self._rank_monitor.now, {}
        self._number += 1
        self._peers.send("look", number=self._number)
        self._rank_monitor.request_stacks()

    def _collect(self) -> HangError | None:
        """Judge when all have answered; where one has not in time, ask again later."""
        if (own := self._rank_monitor.collect_evidence()) is not None:
            self._evidence_by_node[0] = own
        late = self._rank_monitor.now - (self._asked or 0.0) > _ANSWER_SECONDS
        if len(self._evidence_by_node) < self._peers.nodes and not late:
            return None
        self._asked = None
        # A program is certain at its second look; before this it would not be, and a third comes late.
        pause = max(self._rank_monitor.limit, min(self._rank_monitor.quiet(), self._rank_monitor.timeout)) / 2
        self._next = self._rank_monitor.now + pause
        ranks = sorted(
            (rank for found in self._evidence_by_node.values() for rank in found), key=lambda rank: rank.rank
        )
        if len(ranks) != self._world_size:
            return None
        return self._conclude(self._judge(ranks, self._rank_monitor.timeout, self._rank_monitor.limit))

    def _conclude(self, verdict: HangVerdict | None) -> HangError | None:
        """Return the error of a certain hang; warn once of what may become one."""
        if verdict is None:
            return None
        timeout = self._rank_monitor.timeout
        if verdict.certain:
            return hang_error(verdict, self._world_size, timeout, self._limit())
        culprits = [(rank.rank, rank.place) for rank in verdict.culprits]
        if culprits != self._warned:
            self._warned = culprits
            self._warn(hang_warning(verdict, timeout))
        return None

"""When nothing moves on any node: all ranks are looked at, node 0 judges, and says so.

Each node watches its own ranks and tells node 0 when they have come to a standstill. Only when all have does node 0
ask for what they are at; the answers travel as plain values over the link that the nodes have anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..failures import Ending
from ..nodes import LeaderPeers
from .rank_evidence import RankEvidence
from .rank_monitor import Activity, RankMonitor
from .report import hang_error, warning
from .verdict import Verdict, judge_program, judge_training

_ANSWER_SECONDS = 10.0  # of another node; one that takes longer is lost, or is asked again


class HangCoordinator:
    """Node 0's, or that of the only node; of one attempt.

    Args:
        lookout: over this node's ranks.
        world_size: ranks in all.
        training: whether the ranks say how far they are.
        warn: is told of what may become a hang.
        leader: to the other nodes.
    """

    def __init__(
        self,
        lookout: RankMonitor,
        world_size: int,
        *,
        training: bool,
        warn: Callable[[str], None] = lambda _: None,
        leader: LeaderPeers | None = None,
    ) -> None:
        self._rank_monitor = lookout
        self._world_size = world_size
        self._judge = judge_training if training else judge_program
        self._possible = training or world_size > 1  # a program's one rank waits for nobody
        self._warn = warn
        self._warned: list[tuple[int, str]] = []
        self._leader = leader
        self._others: dict[int, Activity] = {}
        self._number = 0
        self._asked: float | None = None
        self._evidence_by_node: dict[int, list[RankEvidence]] = {}
        self._next = 0.0
        if leader is not None:
            leader.on_rank_evidence = self._hear

    def tick(self, ending: Ending) -> None:
        """Look, and put a hang that is certain into ``ending``."""
        self._rank_monitor.tick(ending)
        if self._asked is not None:
            self._collect(ending)
        elif self._rank_monitor.now >= self._next and self._is_suspicious():
            self._ask()

    def _hear(self, node: int, message: dict[str, Any]) -> None:
        """What another node says."""
        if message["attempt"] != self._rank_monitor.attempt.name:
            return
        if message["kind"] == "standing":
            self._others[node] = message["standing"]
        elif message["number"] == self._number:
            found = (RankEvidence.from_json(document) for document in message["ranks"])
            self._evidence_by_node[node] = [replace(evidence, host=message["host"]) for evidence in found]

    @property
    def _nodes(self) -> int:
        return self._leader.nodes if self._leader else 1

    def _is_suspicious(self) -> bool:
        """Whether it is worth asking for stacks, on every node."""
        all_said = len(self._others) == self._nodes - 1
        standing = {self._rank_monitor.standing, *self._others.values()}
        return self._possible and all_said and "still" in standing and "moving" not in standing

    def _ask(self) -> None:
        self._asked, self._evidence_by_node = self._rank_monitor.now, {}
        self._number += 1
        if self._leader is not None:
            self._leader.tell("look", number=self._number)
        self._rank_monitor.ask()

    def _collect(self, ending: Ending) -> None:
        """Judge when all have answered; where one has not in time, ask again later."""
        if (own := self._rank_monitor.answer()) is not None:
            self._evidence_by_node[0] = own
        late = self._rank_monitor.now - (self._asked or 0.0) > _ANSWER_SECONDS
        if len(self._evidence_by_node) < self._nodes and not late:
            return
        self._asked = None
        # A program is certain at its second look; before this it would not be, and a third comes late.
        self._next = self._rank_monitor.now + self._rank_monitor.timeout / 2
        ranks = sorted(
            (rank for found in self._evidence_by_node.values() for rank in found), key=lambda rank: rank.rank
        )
        if len(ranks) == self._world_size:
            self._report(self._judge(ranks, self._rank_monitor.timeout), ending)

    def _report(self, verdict: Verdict | None, ending: Ending) -> None:
        if verdict is None:
            return
        timeout = self._rank_monitor.timeout
        if verdict.certain:
            ending.hang = hang_error(verdict, self._world_size, timeout)
        elif (about := [(rank.rank, rank.place) for rank in verdict.culprits]) != self._warned:
            self._warned = about
            self._warn(warning(verdict, timeout))

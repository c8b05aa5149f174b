"""A node other than node 0 watches its ranks for node 0, which judges (``coordinator.py``)."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from ..nodes import FollowerPeers
from .rank_monitor import Activity, RankMonitor


class FollowerRankMonitor:
    """A reporter that tells node 0 when this node's ranks have come to a standstill, and what they are at when it asks.

    Args:
        rank_monitor: of this node's ranks.
        peers: the way to node 0.
    """

    def __init__(self, rank_monitor: RankMonitor, peers: FollowerPeers) -> None:
        self._rank_monitor = rank_monitor
        self._peers = peers
        self._reported: Activity | None = None
        self._question: int | None = None

    def tick(self, pids: Mapping[int, int], ended: Container[int]) -> None:
        """Look at the ranks, and tell node 0 what it does not know yet.

        Args:
            pids: rank to process of this node's ranks that have started.
            ended: ranks that have ended since.
        """
        monitor = self._rank_monitor
        monitor.tick(pids, ended)
        if monitor.activity != self._reported:
            self._reported = monitor.activity
            self._send("standing", standing=self._reported)
        if self._question is not None and (ranks := monitor.collect_evidence()) is not None:
            self._send("evidence", number=self._question, ranks=[rank.to_json() for rank in ranks])
            self._question = None

    def take_limit(self, seconds: float) -> None:
        """Look at the ranks after the silence that node 0 says."""
        self._rank_monitor.take_limit(seconds)

    def request_stacks(self, number: int) -> None:
        """Have the ranks write their stacks for question ``number`` of node 0."""
        self._question = number
        self._rank_monitor.request_stacks()

    def _send(self, kind: str, **values: Any) -> None:
        self._peers.send(kind, attempt=self._rank_monitor.attempt.name, **values)

"""A node other than node 0: it watches its ranks for node 0, which judges (``launcher/inquiry.py``)."""

from __future__ import annotations

from typing import Any

from ..failures import Ending
from ..nodes import FollowerPeers
from .rank_monitor import Activity, RankMonitor


class FollowerRankMonitor:
    """Says when its ranks have come to a standstill, and what they are at when node 0 asks.

    Args:
        lookout: over this node's ranks.
        follower: to node 0.
    """

    def __init__(self, lookout: RankMonitor, follower: FollowerPeers) -> None:
        self._rank_monitor = lookout
        self._follower = follower
        self._said: Activity | None = None
        self._number: int | None = None
        follower.commands["look"] = self._ask

    def tick(self, ending: Ending) -> None:
        """Look, and tell node 0 what is news to it."""
        lookout = self._rank_monitor
        lookout.tick(ending)
        if lookout.standing != self._said:
            self._said = lookout.standing
            self._tell("standing", standing=self._said)
        if self._number is not None and (ranks := lookout.answer()) is not None:
            self._tell("evidence", number=self._number, ranks=[rank.to_json() for rank in ranks])
            self._number = None

    def _ask(self, message: dict[str, Any]) -> None:
        self._number = message["number"]
        self._rank_monitor.ask()

    def _tell(self, kind: str, **values: Any) -> None:
        self._follower.tell(kind, attempt=self._rank_monitor.attempt.name, **values)

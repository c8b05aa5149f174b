"""How far the ranks of a node other than node 0 may go: the same page, written by what node 0 says."""

from __future__ import annotations

from typing import Any

from ...training.rank import PHASES
from .supervisor_page import SupervisorPage


class FollowerPage(SupervisorPage):
    """The page of this node's ranks, filled with what node 0 says.

    Args:
        ranks: of this node.
    """

    def __init__(self, ranks: int) -> None:
        super().__init__(ranks)
        self._last_rows: list[list[int]] = []

    def apply_horizon(self, message: dict[str, Any]) -> None:
        """Let the ranks continue as far as node 0 says, or stop them."""
        at, final = message["horizon"], message["final"]
        self._horizon.take(at, message["checkpoint_at"], final=final, evaluate_at=message["evaluate_at"])

    def changed_progress(self) -> list[list[int]] | None:
        """Return (steps, phase, signs of life) of each rank, if they have changed since the last time."""
        said = [self.progress_of(rank) for rank in range(self._ranks)]
        rows = [[steps, PHASES.index(phase), stamp] for steps, phase, stamp in said]
        if rows == self._last_rows:
            return None
        self._last_rows = rows
        return rows

"""How far the ranks of a node other than node 0 may go: the same page, written by what node 0 says."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..training.control import PHASES, Horizon, Page


class Followed:
    """The page of this node's ranks, as node 0 wants it.

    Args:
        ranks: of this node.
    """

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._open()
        self._told: list[list[int]] = []

    def _open(self) -> None:
        self._memory = os.memfd_create("lockstep-control")
        self._page = Page(Path(f"/proc/self/fd/{self._memory}"), self._ranks)
        self._horizon = Horizon(self._page)

    @property
    def environment(self) -> dict[str, str]:
        """What the ranks need to find the page."""
        return {"LOCKSTEP_CONTROL": f"/proc/{os.getpid()}/fd/{self._memory}"}

    def renew(self) -> None:
        """A page for the next attempt's ranks."""
        self.close()
        self._open()

    def obey(self, message: dict[str, Any]) -> None:
        """Node 0 lets the ranks go on, or stops them."""
        self._horizon.take(message["horizon"], message["checkpoint_at"], final=message["final"])

    def news(self) -> list[list[int]] | None:
        """(steps, phase, signs of life) of each rank, if they have changed since the last time."""
        said = [self._horizon.said(rank) for rank in range(self._ranks)]
        rows = [[steps, PHASES.index(phase), stamp] for steps, phase, stamp in said]
        if rows == self._told:
            return None
        self._told = rows
        return rows

    def close(self) -> None:
        """Give the page back."""
        self._page.close()
        os.close(self._memory)

"""The page that a node's launcher shares with its ranks: how far they are, and how far they may go."""

from __future__ import annotations

import os
from pathlib import Path

from ...training.rank import ControlPage, Horizon


class SupervisorPage:
    """The launcher's side of the page.

    Args:
        ranks: that have a place on it.
    """

    def __init__(self, ranks: int) -> None:
        self._ranks = ranks
        self._open()

    def _open(self) -> None:
        self._memory = os.memfd_create("lockstep-control")
        self._page = ControlPage(Path(f"/proc/self/fd/{self._memory}"), self._ranks)
        self._horizon = Horizon(self._page)

    def reset(self) -> None:
        """Open a new page for the next attempt's ranks, which may be behind what this one's have done."""
        self.close()
        self._open()

    @property
    def environment(self) -> dict[str, str]:
        """What the ranks need to find the page: it has no name that could be left behind."""
        return {"LOCKSTEP_CONTROL": f"/proc/{os.getpid()}/fd/{self._memory}"}

    def progress_of(self, rank: int) -> tuple[int, str, int]:
        """Return how far a rank of this node is, as ``Horizon.said``."""
        return self._horizon.said(rank)

    def close(self) -> None:
        """Give the page back."""
        self._page.close()
        os.close(self._memory)

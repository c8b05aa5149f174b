"""One attempt owns a run: one that was given up, but lives on, can neither commit a checkpoint nor log."""

from __future__ import annotations

import os
from pathlib import Path

from ...data.common import RankLostError, atomic_replacement

_NAME = "owner"


class FencingToken:
    """Compares this process's token with the run folder's.

    Args:
        folder: the run folder.
        token: this attempt's; None without fencing, as under plain torchrun.
    """

    def __init__(self, folder: Path, token: str | None) -> None:
        self._path = folder / _NAME
        self._token = token

    def check(self) -> None:
        """Check that this attempt still owns the run.

        Raises:
            RankLostError: another attempt has taken the run over.
        """
        if self._token is None:
            return
        owner = self._path.read_text(encoding="utf-8").strip()
        if owner != self._token:
            raise RankLostError(
                f"this attempt ({self._token}) was given up: {owner} has taken the run over",
                "nothing was written; the run continues there",
            )


def take_ownership(folder: Path, token: str) -> None:
    """Make ``token`` the run's owner, in one step: a reader sees the old one or the new one."""
    with atomic_replacement(folder / _NAME, folder / f".{_NAME}.{os.getpid()}") as temporary:
        temporary.write_text(token + "\n", encoding="utf-8")

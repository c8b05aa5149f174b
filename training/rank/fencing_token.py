"""One attempt owns a run: one that was given up, but lives on, can neither commit a checkpoint nor log."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from ...data.common import MachineError, RankLostError, atomic_replacement, os_error_for_users

UNREADABLE_SECONDS = 20.0
"""A run folder that cannot be read for longer ends the run."""
_BETWEEN_SECONDS = 0.05
_NAME = "owner"


class FencingToken:
    """Compares this process's token with the run folder's.

    Args:
        folder: the run folder.
        token: this attempt's; None without fencing, as under plain torchrun.
        waiting: called now and then while the folder cannot be read: this process lives.
    """

    def __init__(self, folder: Path, token: str | None, waiting: Callable[[], None] = lambda: None) -> None:
        self._path = folder / _NAME
        self._token = token
        self._waiting = waiting

    def check(self) -> None:
        """Check that this attempt still owns the run.

        Raises:
            RankLostError: another attempt has taken the run over.
            MachineError: the run folder cannot be read, and that lasts.
        """
        if self._token is None:
            return
        owner = self._read()
        if owner != self._token:
            raise RankLostError(
                f"this attempt ({self._token}) was given up: {owner} has taken the run over",
                "nothing was written; the run continues there",
            )

    def _read(self) -> str:
        """Read who owns the run; a file server that fails over, or a folder that is moved, may be back in a moment."""
        deadline = time.monotonic() + UNREADABLE_SECONDS
        while True:
            try:
                return self._path.read_text(encoding="utf-8").strip()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise unreadable(error) from error
            self._waiting()
            time.sleep(_BETWEEN_SECONDS)


def unreadable(error: OSError) -> MachineError:
    """Make the error about a run folder that could not be read for all of ``UNREADABLE_SECONDS``."""
    told = os_error_for_users(error)
    what = f"the run folder has been out of reach for {UNREADABLE_SECONDS:g} s: {told.message}"
    return MachineError(what, f"{told.hint or 'bring it back'}; then resume the run")


def take_ownership(folder: Path, token: str) -> None:
    """Make ``token`` the run's owner, in one step: a reader sees the old one or the new one."""
    with atomic_replacement(folder / _NAME, folder / f".{_NAME}.{os.getpid()}") as temporary:
        temporary.write_text(token + "\n", encoding="utf-8")

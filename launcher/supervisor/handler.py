"""The decisions that a supervisor of processes cannot make by itself."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Protocol

from ...data.common import HangError
from ..failures import AttemptEnd


class Handler(Protocol):
    """The decisions that a supervisor of processes cannot make by itself; it asks while the ranks run."""

    @property
    def may_restart(self) -> bool:
        """Whether ranks that fail may be started once more."""

    def tick(self) -> None:
        """Do what is to be done many times a second."""

    def note(self, text: str) -> None:
        """Tell users something about the ranks."""

    def on_signal(self, number: int) -> bool:
        """Act on a signal; False where there is nothing gentler than to end everything."""

    def on_message(self, node: int, message: dict[str, Any]) -> None:
        """Act on what another node says, other than about its ranks and their end."""

    def find_hang(self, pids: Mapping[int, int], ended: Container[int]) -> HangError | None:
        """Look at ranks of which nothing bad is known."""

    def is_cause_known(self, end: AttemptEnd) -> bool:
        """Tell whether the cause of a bad end is among the ends so far."""

    def next_attempt(self, end: AttemptEnd) -> dict[str, Any] | None:
        """Decide after a bad end, when no rank is left: what the agent is told of the next attempt, None for none."""

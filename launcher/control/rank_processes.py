"""What a change of the processes asks of their supervisor."""

from __future__ import annotations

from typing import Protocol

from ...training.rank import WorldChange


class RankProcesses(Protocol):
    """The processes of the ranks, as the supervisor has them."""

    @property
    def are_ending(self) -> bool:
        """Whether a process lives on that has no part in the training any more, and so keeps its number."""

    @property
    def killed(self) -> dict[int, int]:
        """Those that a signal has ended, with their wait status; none where one has ended otherwise."""

    def begin_rescue(self, change: WorldChange) -> None:
        """Note that the others are to go on without those that have died."""

    def start_joining(self, change: WorldChange) -> None:
        """Start the processes that join by a change."""

    def begin_change(self, change: WorldChange) -> None:
        """Note that the ranks have been told of a change."""

    def end_change(self, change: WorldChange) -> None:
        """Note that they have finished it."""

    def failed_to_join(self) -> str:
        """Say why a process that was to join has ended; empty while none has."""

    def end_joining(self, change: WorldChange) -> None:
        """End the processes that were to join."""

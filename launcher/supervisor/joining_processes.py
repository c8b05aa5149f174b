"""The processes that join and leave a training, as its supervisor starts, counts and ends them."""

from __future__ import annotations

import json
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from ...data.common import process_of
from ...training.rank import WorldChange
from .attempt_record import AttemptRecord


class AgentsSupervisor(Protocol):
    """A supervisor that has an agent."""

    @property
    def record(self) -> AttemptRecord:
        """What is known of the attempt."""

    def tell_agent(self, order: dict[str, Any]) -> None:
        """Give the agent an order."""


class JoiningProcesses:
    """The processes of one attempt.

    Args:
        supervisor: of all of them.
        attempt: the folder in which they say why they have failed.
    """

    def __init__(self, supervisor: AgentsSupervisor, attempt: Path) -> None:
        self._supervisor = supervisor
        self._attempt = attempt

    def start_joining(self, change: WorldChange) -> None:
        """Start the processes that join by a change."""
        self._supervisor.record.await_joining(change)
        numbers = {"joining": [*change.joining], "change": change.number, "before": [*change.before]}
        self._supervisor.tell_agent(numbers)

    def begin_change(self, change: WorldChange) -> None:
        """Note that the ranks have been told of a change."""
        self._supervisor.record.begin_change(change)

    def end_change(self, change: WorldChange) -> None:
        """Note that they are through with it."""
        self._supervisor.record.end_change(change)

    @property
    def are_ending(self) -> bool:
        """Whether a process lives on that has no part in the training any more."""
        return self._supervisor.record.are_ending

    def failed_to_join(self) -> str:
        """Say why a process that was to join has ended; empty while none has."""
        for number in self._supervisor.record.failed_joins:
            file = self._attempt / f"error-{number}.json"
            message = "it has ended"
            with suppress(OSError, ValueError, KeyError):
                message = str(json.loads(file.read_text(encoding="utf-8"))["message"])
                file.unlink()
            return f"process {number} could not join: {message} (see {self._attempt.name}/rank-{number}.log)"
        return ""

    def end_joining(self, change: WorldChange) -> None:
        """End the processes that were to join."""
        pids = self._supervisor.record.pids
        self._supervisor.record.cancel_joining()
        for number in change.joining:
            if (process := process_of(pids.get(number, -1))) is not None:
                process.send_signal(signal.SIGKILL)

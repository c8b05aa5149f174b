"""A launch over several hosts, from the command that was given on one machine: it starts the nodes and ends with them.

Node 0 decides everything, as it does where each node is started by hand. What is decided here is only what happens
before the nodes have met, and when a host is lost.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

from ...data.common import LockstepError, MachineError, RankLostError, error_of_status
from ..console import print_failure_card, read_card
from ..supervisor import HeardSignals
from .connection import Connection
from .host_group import HostGroup
from .host_outputs import HostOutputs
from .node_command import UserCommand, node_arguments

_GATHER_SECONDS = 1.0  # after the first host that fails before the nodes have met: others may fail, too
_OTHERS_SECONDS = 60.0  # for the other hosts, once node 0 has ended
_AT_ONCE_SECONDS = 5.0  # after a second interrupt
_SIGNALLED = 128


class HostsLaunch:
    """The nodes of a launch while they run.

    Args:
        group: the hosts, which have been checked.
        outputs: shows what they print.
    """

    def __init__(self, group: HostGroup, outputs: HostOutputs) -> None:
        self._group = group
        self._outputs = outputs
        self._leader = group.connections[0]
        self._signals = HeardSignals()
        self._interrupts = 0
        self._kill_at: float | None = None
        self._failed_at: float | None = None
        self._culprits: list[Connection] = []
        """Because of whom all nodes were ended before they had met."""
        self._notes: list[str] = []
        self._named: set[int] = set()

    def run(self, command: UserCommand, rendezvous: str, environment: dict[str, str], key: str) -> int:
        """Start the nodes and wait for their end; return the exit status."""
        self._signals.listen()
        try:
            self._start(command, rendezvous, environment, key)
            while self._leader.status is None and not self._leader.is_over:
                self._turn()
                self._end_what_cannot_meet()
            self._wait_for_the_others()
        finally:
            self._outputs.close()
            self._signals.leave()
        return self._conclude()

    def _start(self, command: UserCommand, rendezvous: str, environment: dict[str, str], key: str) -> None:
        hosts = [connection.host for connection in self._group.connections]
        for connection in self._group.connections:
            has_gpus = bool((connection.hello or {}).get("gpus"))
            arguments = node_arguments(command, hosts, connection.node, rendezvous, has_gpus=has_gpus)
            connection.order("start", arguments=arguments, environment=environment, key=key)

    def _turn(self) -> None:
        self._group.turn()
        self._take_signals()
        for connection in self._group.connections[1:]:
            if connection.is_over and connection.status is None and connection.node not in self._named:
                self._named.add(connection.node)
                self._note_loss(connection)
        self._outputs.tick(self._notes)
        if self._kill_at is not None and time.monotonic() > self._kill_at:
            self._kill_at = None
            self._signal_all(signal.SIGKILL)

    def _note_loss(self, connection: Connection) -> None:
        if connection.has_met:
            why = connection.why_it_ended
            self._notes.append(f"{connection.host.name} was lost: {why}; its node ends as at a SIGTERM")

    def _take_signals(self) -> None:
        """Pass signals to node 0, which acts on them for all; after a second interrupt nobody is waited for long."""
        while (number := self._signals.pop()) is not None:
            self._interrupts += number == signal.SIGINT
            if self._interrupts > 1 and self._kill_at is None:
                self._kill_at = time.monotonic() + _AT_ONCE_SECONDS
            self._leader.order("signal", number=int(number))

    def _signal_all(self, number: int) -> None:
        for connection in self._group.living:
            if connection.status is None:
                connection.order("signal", number=int(number))

    def _failed_early(self) -> list[Connection]:
        """Find the hosts, other than node 0's, whose launch has ended before the nodes have met."""
        return [
            connection
            for connection in self._group.connections[1:]
            if not connection.has_met and (connection.status is not None or connection.is_over)
        ]

    def _end_what_cannot_meet(self) -> None:
        """End all nodes where one cannot come: the others would wait for it."""
        if self._leader.has_met or self._culprits or not self._failed_early():
            return
        self._failed_at = self._failed_at or time.monotonic()
        if time.monotonic() - self._failed_at > _GATHER_SECONDS:
            self._culprits = self._failed_early()
            self._signal_all(signal.SIGTERM)

    def _wait_for_the_others(self) -> None:
        """Wait until the other nodes have heard of the end; those that have not met node 0 wait for it in vain."""
        if not self._leader.has_met:
            self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + _OTHERS_SECONDS
        while any(connection.status is None for connection in self._group.living):
            if self._kill_at is None and time.monotonic() > deadline:
                self._kill_at = time.monotonic()
            if time.monotonic() > deadline + _AT_ONCE_SECONDS:
                return
            self._turn()

    def _conclude(self) -> int:
        """Say what node 0 could not say; return the exit status."""
        if self._culprits and not self._outputs.card(0):
            error = self._error_of(self._culprits)
        elif self._leader.status is None or self._leader.status == _SIGNALLED + signal.SIGKILL:
            error = self._loss_of_leader()
        else:
            return self._leader.status
        print_failure_card(error)
        return error.exit_status

    def _error_of(self, failed: Sequence[Connection]) -> LockstepError:
        """Make one error of those of all hosts that have failed."""
        errors = [self._own_error(connection) for connection in failed]
        hint = "; ".join(dict.fromkeys(error.hint for error in errors if error.hint))
        if len(errors) == 1:
            message = errors[0].message
        else:
            rows = [error.message.replace("\n", "\n  ") for error in errors]
            message = "\n".join([f"{len(rows)} of {len(self._group.connections)} hosts have failed", *rows])
        error = type(errors[0])(message, hint)
        error.exit_status = errors[0].exit_status
        return error

    def _own_error(self, connection: Connection) -> LockstepError:
        name, status = connection.host.name, connection.status
        if status is None:
            return RankLostError(
                f"host {name}: {connection.why_it_ended}", "look at that machine and the network"
            )
        message, hint = read_card(self._outputs.card(connection.node))
        message = message or f"its launch ended with status {status} before the nodes have met"
        error = error_of_status(status)(f"host {name}: {message}", hint)
        error.exit_status = status or MachineError.exit_status
        return error

    def _loss_of_leader(self) -> LockstepError:
        leader = self._leader
        if leader.status is None:
            why = f"the connection was lost: {leader.why_it_ended}; its node ends as at a SIGTERM"
        else:
            why = "its launch was killed (SIGKILL)"
        return RankLostError(
            f"host {leader.host.name} (node 0): {why}; exit status 4", "look at that machine and the network"
        )

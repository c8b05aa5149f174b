"""All hosts of a launch, asked and heard together."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

from .connection import Connection
from .host_list import Host

_POLL_SECONDS = 0.1
_END_SECONDS = 3.0

Output = Callable[[Connection, int, bytes], None]
"""Takes what the launch of a host has printed."""


class HostGroup:
    """The connections to all hosts; leaving it ends them.

    Args:
        hosts: node 0 first.
        output: takes what their launches print.
    """

    def __init__(self, hosts: Sequence[Host], output: Output) -> None:
        self._output = output
        self.connections: list[Connection] = []
        try:
            for node, host in enumerate(hosts):
                self.connections.append(Connection(host, node))
        except BaseException:
            self._end(0.0)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end(_END_SECONDS)

    def _end(self, patience: float) -> None:
        for connection in self.connections:
            connection.hang_up()
        deadline = time.monotonic() + patience
        while self.living and time.monotonic() < deadline:
            self.turn()
        for connection in self.living:
            connection.end()

    @property
    def living(self) -> list[Connection]:
        """The connections from which more may come."""
        return [connection for connection in self.connections if not connection.is_over]

    def turn(self) -> None:
        """Wait a moment, and hear them all."""
        with selectors.DefaultSelector() as selector:
            for connection in self.living:
                for descriptor in connection.descriptors:
                    selector.register(descriptor, selectors.EVENT_READ)
            selector.select(_POLL_SECONDS)
        for connection in self.living:
            for stream, data in connection.turn():
                self._output(connection, stream, data)

    def wait(self, condition: Callable[[Connection], bool], seconds: float) -> None:
        """Wait until each is as wanted or has ended, at most for a time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not all(map(condition, self.living)):
            self.turn()

    def ask(
        self, what: str, orders: Mapping[int, Mapping[str, Any]], seconds: float
    ) -> Iterator[tuple[Connection, dict[str, Any] | None]]:
        """Give some nodes an order and yield what each answers; None where it does not.

        Args:
            what: to do.
            orders: node to the values of its order.
            seconds: to wait for the slowest.
        """
        asked = [connection for connection in self.connections if connection.node in orders]
        for connection in asked:
            connection.order(what, **orders[connection.node])
        answers: dict[int, dict[str, Any]] = {}

        def has_answered(connection: Connection) -> bool:
            if connection.node not in answers and (answer := connection.take(what)) is not None:
                answers[connection.node] = answer
            return connection.node in answers or connection.node not in orders

        self.wait(has_answered, seconds)
        for connection in asked:
            has_answered(connection)
            yield connection, answers.get(connection.node)

"""The supervisor's question to the agent that is starting: prepare the data, beside your imports."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


class DataRequest:
    """The socket by which the agent is asked once for a child that prepares the data."""

    def __init__(self) -> None:
        self._socket, self.of_agent = socket.socketpair()

    def ask(self, question: str) -> int:
        """Ask; return the descriptor that the answer can be read from. What the data's code prints goes to stderr."""
        answer, writer = os.pipe()
        stderr = _stderr()
        line = f"{question}\n".encode()
        with suppress(BrokenPipeError):  # the agent has ended; the answer will be an end of file
            sent = socket.send_fds(self._socket, [line], [writer, stderr])
            self._socket.sendall(line[sent:])
        os.close(writer)
        os.close(stderr)
        return answer

    def exit_status(self) -> int | None:
        """Return how the child has ended, as ``subprocess`` would; None where the agent has ended as well."""
        with self._socket.makefile("rb") as file, suppress(ConnectionResetError):
            if line := file.readline():
                return int(line)
        return None

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()


def _stderr() -> int:
    try:
        return os.dup(2)
    except OSError:  # it is closed
        return os.open(os.devnull, os.O_WRONLY)

"""The agent's child that prepares the data: torch, which most data needs, is imported once for both.

The supervisor asks by a socket, with one line of JSON and the descriptors of the answer and of stderr; it may do so
while the agent is importing. It gets the wait status of the child as a line of its own.
"""

from __future__ import annotations

import importlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

from .rank_process import apply_rank_environment, detach_from_parent, set_process_title

MODULE = "lockstep.data.prepare"
PREPARATION = (sys.executable, "-P", "-m", MODULE)

Task = Callable[[], int]


class DataChild:
    """The preparation that the supervisor may ask for, before it orders the ranks.

    Args:
        descriptors: of the socket, if there is one.
        fork: forks a child that prepares itself and then does a task; returns its number.
    """

    def __init__(self, descriptors: list[int], fork: Callable[[Callable[[], Task]], int]) -> None:
        self._socket = socket.socket(fileno=descriptors[0]) if descriptors else None
        self._fork = fork
        self._agent = os.getpid()
        self._ended = -1

    def start_if_asked(self, unsafe: str) -> None:
        """Start it if it was asked for: by a fork, or as a fresh process where a fork would be unsafe."""
        if self._socket is None or self._ended >= 0 or not _is_readable(self._socket.fileno()):
            return
        line, descriptors, _, _ = socket.recv_fds(self._socket, 65_536, 2)
        while line and not line.endswith(b"\n"):
            line += self._socket.recv(65_536)
        if not line:
            self._close()
            return
        answer, stderr = descriptors
        start = self._execute if unsafe else self._fork_for
        self._ended = os.pidfd_open(start(line, answer, stderr))
        for descriptor in descriptors:
            os.close(descriptor)

    def serve_until(self, order: int, unsafe: Callable[[], str]) -> None:
        """Start the preparation when it is asked for and report its end, until ``order`` can be read."""
        while self._socket is not None:
            expected = self._socket.fileno() if self._ended < 0 else self._ended
            ready = select.select([order, expected], [], [])[0]
            if self._ended in ready:
                self._report_end()
            elif expected in ready:
                self.start_if_asked(unsafe())
            if order in ready:
                return

    def finish(self) -> None:
        """Wait for the end of the child, whose answer the supervisor has."""
        if self._ended >= 0:
            self._report_end()
        self._close()

    def _report_end(self) -> None:
        result = os.waitid(os.P_PIDFD, self._ended, os.WEXITED)
        status = 0 if result is None else result.si_status
        killed = result is not None and result.si_code != os.CLD_EXITED
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendall(f"{-status if killed else status}\n".encode())
        self._close()

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._ended >= 0:
            os.close(self._ended)
            self._ended = -1

    def _fork_for(self, question: bytes, answer: int, stderr: int) -> int:
        return self._fork(lambda: self._become_child(question, answer, stderr))

    def _become_child(self, question: bytes, answer: int, stderr: int) -> Task:
        """Be what a fresh process would be, but for what is imported; return what is to be done."""
        if self._socket is not None:
            self._socket.detach()
        nothing = os.open(os.devnull, os.O_RDONLY)
        kept = detach_from_parent(self._agent, [nothing, stderr, stderr], answer)
        apply_rank_environment({})
        set_process_title(PREPARATION)
        return lambda: _prepare(question.decode(), kept)

    def _execute(self, question: bytes, answer: int, stderr: int) -> int:
        child = subprocess.Popen(
            PREPARATION, stdin=subprocess.PIPE, stdout=answer, stderr=stderr, start_new_session=True
        )
        if child.stdin is not None:
            with suppress(BrokenPipeError):
                child.stdin.write(question)
                child.stdin.close()
        child.returncode = 0  # it is waited for here, not by subprocess
        return child.pid


def _is_readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0)[0])


def _prepare(question: str, answer: int) -> int:
    status: int = importlib.import_module(MODULE).answer_question(question, answer)
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(
        status
    )  # as the fresh process: a thread that user code left behind must not keep the launcher waiting

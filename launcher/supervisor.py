"""The supervisor of one node: starts the agent, watches the ranks, and decides every end. No torch here.

A rank is watched by a pidfd and owes a "done" message. The first abnormal end stops everything: the agent's
session is killed as a whole, so that nothing is left.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

_POLL_SECONDS = 0.05
_GRACE_SECONDS = 0.4  # for the other ranks' accounts of a failure, before all are killed


@dataclass
class Ending:
    """How the ranks of an attempt ended."""

    done: set[int] = field(default_factory=set)
    lost: dict[int, int | None] = field(default_factory=dict)
    """Rank to wait status, in the order of their ends, for ranks that ended before they were done."""
    agent_status: int | None = None
    signal: int | None = None
    """The signal that asked the supervisor itself to stop."""


class Supervisor:
    """One attempt's processes.

    Args:
        threads: per rank; has to be known before torch is imported.
        environment: additions to the ranks' environment.
        log: the agent's own output.
        keep: open files that the agent inherits.
    """

    def __init__(
        self, threads: int, environment: dict[str, str], log: Path, keep: tuple[int, ...] = ()
    ) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._status, write_end = os.pipe()
        with log.open("ab") as output:
            self._agent = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "lockstep.launcher.agent",
                    str(self._socket.fileno()),
                    str(write_end),
                ],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(self._socket.fileno(), write_end, *keep),
                start_new_session=True,
                env={**os.environ, **_thread_environment(threads), **environment},
            )
        os.close(write_end)
        self._socket.close()
        self._ranks: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._buffer = b""
        self.ending = Ending()

    def go(self, order: dict[str, Any]) -> None:
        """Let the agent start the ranks."""
        if self._agent.stdin is not None:
            with suppress(BrokenPipeError):
                self._agent.stdin.write((json.dumps({**order, "port": self.port}) + "\n").encode())
                self._agent.stdin.flush()

    def cancel(self) -> None:
        """Kill whatever was started."""
        with suppress(ProcessLookupError):
            os.killpg(self._agent.pid, signal.SIGKILL)
        self._agent.wait()
        if self._agent.stdin is not None:
            with suppress(OSError):
                self._agent.stdin.close()

    def watch(self, tick: Callable[[], None]) -> Ending:
        """Wait for the end, calling ``tick`` now and then; afterwards no process is left."""
        previous = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._status, selectors.EVENT_READ, None)
                selector.register(os.pidfd_open(self._agent.pid), selectors.EVENT_READ, -1)
                self._loop(selector, tick)
        finally:
            self.cancel()
            os.close(self._status)
            for number, handler in previous.items():
                signal.signal(number, handler)
        tick()
        return self.ending

    def _loop(self, selector: selectors.BaseSelector, tick: Callable[[], None]) -> None:
        deadline: float | None = None
        while self.ending.agent_status is None and self.ending.signal is None:
            for key, _ in selector.select(_POLL_SECONDS):
                self._handle(selector, key)
            tick()
            if self.ending.lost and deadline is None:
                deadline = time.monotonic() + _GRACE_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                return

    def _handle(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        if key.data is None:
            self._read_status(selector)
            return
        if key.data == -1:
            self._read_status(selector)
            self.ending.agent_status = self._agent.wait()
        elif key.data not in self.ending.done:
            self._read_status(selector)
            if key.data not in self.ending.done:
                self.ending.lost[key.data] = _wait_status(self._pids[key.data])
        selector.unregister(key.fd)
        os.close(key.fd)

    def _read_status(self, selector: selectors.BaseSelector) -> None:
        os.set_blocking(self._status, False)
        with suppress(BlockingIOError):
            while chunk := os.read(self._status, 65_536):
                self._buffer += chunk
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._message(json.loads(line), selector)

    def _message(self, message: dict[str, Any], selector: selectors.BaseSelector) -> None:
        if message["kind"] == "started":
            self._pids[message["rank"]] = message["pid"]
            try:
                selector.register(os.pidfd_open(message["pid"]), selectors.EVENT_READ, message["rank"])
            except ProcessLookupError:
                self.ending.lost[message["rank"]] = None
        elif message["kind"] == "done":
            self.ending.done.add(message["rank"])
            self.ending.lost.pop(message["rank"], None)

    def _stop(self, number: int, _: FrameType | None) -> None:
        self.ending.signal = number


def _thread_environment(threads: int) -> dict[str, str]:
    """Read when torch and NumPy are imported; one node's traffic stays on the loopback interface.

    Threads that wait for work sleep instead of spinning: on a machine that something else uses as well, two
    spinning threads made a step of a small model ten times slower (1.6 ms with one thread, 18.8 ms with two).
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    loopback = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    waiting = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    return {**dict.fromkeys(names, str(threads)), **loopback, **waiting}


def _wait_status(pid: int) -> int | None:
    """The wait status of a process that has ended but is not reaped yet; None once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[-1])
    except (OSError, ValueError, IndexError):
        return None

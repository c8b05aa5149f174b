"""The supervisor of one node: starts the agent, watches the ranks, and decides every end. No torch here.

The agent reports each rank's start and end; a rank of ``launch train`` owes a "done" as well. The first abnormal end
stops everything, as soon as its cause is known. Supervisor and agent see each other's end by a pipe, and whoever is
left kills every process of the run, so that nothing stays.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from . import family
from .ending import Ending, memory_kills
from .orders import Job

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 0.4  # for the other ranks' accounts of a failure, before all are killed
_CAUSE_SECONDS = 3.5  # for the cause, where only its victims have ended: all are to be gone within 5 s
_END_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_HIGH = 200
_ENTRY = (
    b"import sys; sys.flags.safe_path or sys.path.pop(0); "  # a module of the user's must not shadow one of ours
    # Later the descriptor is another file, a pipe perhaps: who formats a stack must not read "its source" there.
    b"import linecache; linecache.cache[__file__] = (0, None, [], __file__); del __file__; "
    b"from lockstep.launcher.agent import main; sys.exit(main())"
)


class Supervisor:
    """One attempt's processes.

    Args:
        job: what for.
        known: whether the cause of a bad end is among the ends so far.
        owed: a rank that ends with status 0 and without "done" is lost.
    """

    def __init__(self, job: Job, known: Callable[[Ending], bool], *, owed: bool) -> None:
        family.become_subreaper()
        self._known = known
        self._owed = owed
        self._outputs = job.outputs
        self._mark = secrets.token_hex(8)
        self._memory_kills = memory_kills()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._status, self._told = os.pipe()
        self._heard, self._order = os.pipe()
        self._agent = self._start(job)
        for descriptor in (self._told, self._heard):
            os.close(descriptor)
        self._socket.close()
        if job.outputs is not None:
            job.outputs.release()
        self._buffer = b""
        self._seen: set[family.Process] = set()
        self._looked = 0.0
        self._count = -1
        self._all_done: float | None = None
        self.ending = Ending()
        self.on_signal: Callable[[int], bool] = lambda _: False
        """Told of each signal; False where there is nothing gentler than to end everything."""
        self.on_look: Callable[[Ending], None] = lambda _: None
        """Called now and then; may put a hang into the ending, which ends everything."""
        self._signals: list[int] = []
        self.notes: list[str] = []
        """What people should know about the start; taken by whoever shows it."""

    def _start(self, job: Job) -> subprocess.Popen[bytes]:
        ours = (self._heard, self._told, self._socket.fileno())
        environment = {
            **thread_environment(job.threads),
            **job.environment,
            family.MARK: self._mark,
            "LOCKSTEP_AGENT": " ".join([*map(str, ours), ",".join(job.modules)]),
        }
        code = _readable(_ENTRY)
        with job.log.open("ab") as output:
            agent = subprocess.Popen(
                _command(f"/dev/fd/{code}", job.room),
                stdin=None if job.stdin else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(code, *ours, *job.keep, *(job.outputs.writers if job.outputs else ())),
                start_new_session=True,
                env={**os.environ, **environment},
            )
        os.close(code)
        return agent

    def go(self, order: dict[str, Any]) -> None:
        """Let the agent start the ranks."""
        self._count = int(order["processes"])
        with suppress(BrokenPipeError):
            os.write(self._order, (json.dumps({**order, "port": self.port}) + "\n").encode())

    def cancel(self) -> None:
        """Kill whatever was started."""
        if self._order < 0:
            return
        mine = family.process_of(self._agent.pid)
        self._look()
        family.end_all(self._below_agent)
        if mine is not None:
            family.kill(mine)
        if self._agent.returncode is None:
            self._agent.wait()
        family.end_all(lambda: family.marked(self._mark) | {p for p in self._seen if _lives(p)})
        os.close(self._order)
        self._order = -1

    def _below_agent(self) -> set[family.Process]:
        return family.descendants(self._agent.pid)

    def watch(self, tick: Callable[[], None]) -> Ending:
        """Wait for the end, calling ``tick`` now and then; afterwards no process is left."""
        previous = {number: signal.signal(number, self._stop) for number in _STOPS}
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._status, selectors.EVENT_READ, self._read_status)
                agent = os.pidfd_open(self._agent.pid)
                selector.register(agent, selectors.EVENT_READ, self._agent_ended)
                for descriptor in self._outputs.readers() if self._outputs else ():
                    selector.register(descriptor, selectors.EVENT_READ, self._read_output)
                self._loop(selector, tick)
                os.close(agent)
        finally:
            self.cancel()
            os.close(self._status)
            if self._outputs is not None:
                self._outputs.drain()
            for number, handler in previous.items():
                signal.signal(number, handler)
        self.ending.memory_kills = memory_kills() - self._memory_kills
        tick()
        return self.ending

    def _loop(self, selector: selectors.BaseSelector, tick: Callable[[], None]) -> None:
        began: float | None = None
        while self.ending.agent_status is None and self.ending.signal is None:
            for key, _ in selector.select(_POLL_SECONDS):
                key.data(selector, key.fd)
            self._obey()
            tick()
            self._look()
            if self._all_ended():
                return
            if not self.ending.lost:
                self.on_look(self.ending)
            if self.ending.hang is not None:
                return
            if self.ending.lost:
                began = began or time.monotonic()
                patience = _GRACE_SECONDS if self._known(self.ending) else _CAUSE_SECONDS
                if time.monotonic() - began > patience:
                    return

    def _all_ended(self) -> bool:
        """Every rank that was started has ended, or has done what it owed and hangs in its own clean-up."""
        ended = len(self.ending.stamps)
        if self._owed and len(self.ending.done) == self._count:
            self._all_done = self._all_done or time.monotonic()
            return ended == self._count or time.monotonic() - self._all_done > _END_SECONDS
        return ended == self._count

    def _look(self) -> None:
        """Remember the run's processes: if the agent dies, what it had started can no longer be found below it."""
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._seen = {p for p in self._seen if _lives(p)} | family.descendants(self._agent.pid)
            self._looked = time.monotonic()

    def _agent_ended(self, selector: selectors.BaseSelector, descriptor: int) -> None:
        self._read_status(selector, self._status)
        self.ending.agent_status = self._agent.wait()
        selector.unregister(descriptor)

    def _read_output(self, selector: selectors.BaseSelector, descriptor: int) -> None:
        if self._outputs is not None and not self._outputs.read(descriptor):
            selector.unregister(descriptor)

    def _read_status(self, _: selectors.BaseSelector, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        with suppress(BlockingIOError):
            while chunk := os.read(descriptor, 65_536):
                self._buffer += chunk
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._message(json.loads(line))

    def _message(self, message: dict[str, Any]) -> None:
        ending, kind, rank = self.ending, message["kind"], message.get("rank", -1)
        if kind == "started":
            ending.pids[rank] = message["pid"]
            if message["fresh"] not in ("", "asked for"):
                self.notes.append(f"rank {rank} is a fresh process, not a fork: {message['fresh']}")
        elif kind == "done":
            ending.done.add(rank)
        elif kind == "ended":
            self._rank_ended(rank, message["status"])
        elif kind == "engine":
            ending.agent_status = message["status"]

    def _rank_ended(self, rank: int, status: int) -> None:
        self.ending.stamps[rank] = time.time_ns()
        said = rank in self.ending.done
        if status == 0 and not self._owed:
            self.ending.done.add(rank)
            if not said:
                self.ending.silent.add(rank)
                self.notes.append(f"rank {rank} ended with status 0, but not as Python ends (os._exit?)")
        elif not said or (status and not self._owed):  # what is done stays done, however its process ends
            self.ending.done.discard(rank)
            self.ending.lost[rank] = status

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._signals.append(number)

    def _obey(self) -> None:
        """Outside the handler, which only sets a flag."""
        while self._signals:
            number = self._signals.pop(0)
            if not self.on_signal(number):
                self.ending.signal = number


def _command(code: str, room: int) -> list[str]:
    """Short, and then as long as a rank's own, which takes its place in ``ps`` and must leave nothing over."""
    command = [sys.executable, "-u", code]
    missing = room - sum(len(os.fsencode(part)) + 1 for part in command)
    return [*command, "." * (missing - 1)] if missing > 0 else command


def _readable(data: bytes) -> int:
    """A descriptor that ``data`` can be read from.

    Its number is high, so that no file or pipe of the user's gets it later: whoever looks for the source of the
    agent's frame under this name, past linecache, must find nothing. Number 9 was a pipe of the loader's.
    """
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    high = fcntl.fcntl(reader, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    os.close(reader)
    return high


def _lives(process: family.Process) -> bool:
    return family.process_of(process.pid) == process


def thread_environment(threads: int) -> dict[str, str]:
    """Read when torch and NumPy are imported; one node's traffic stays on the loopback interface.

    Threads that wait for work sleep instead of spinning: on a machine that something else uses as well, two
    spinning threads made a step of a small model ten times slower (1.6 ms with one thread, 18.8 ms with two).
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    loopback = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    waiting = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
    return {**dict.fromkeys(names, str(threads)), **loopback, **waiting}

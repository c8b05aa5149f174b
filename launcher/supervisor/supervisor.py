"""The supervisor of one node: starts the agent, watches the ranks, and decides every end. No torch here.

The agent reports each rank's start and end; a rank of ``launch train`` owes a "done" as well. The first abnormal end
stops everything, as soon as its cause is known. Supervisor and agent see each other's end by a pipe, and whoever is
left kills every process of the run, so that nothing stays.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from ...data.common import Process, descendants, held_back, process_of
from ..failures import Ending, memory_kills
from ..nodes import SingleNode, interface_of
from ..process import process_tree as family
from .agent_command import AGENT_CODE, command, readable, thread_environment
from .agent_orders import Job

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 0.4  # for the other ranks' accounts of a failure, before all are killed
_CAUSE_SECONDS = 3.5  # for the cause, where only its victims have ended: all are to be gone within 5 s
_END_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_BETWEEN_SECONDS = 0.01

Known = Callable[[Ending], bool]
"""Whether the cause of a bad end is among the ends so far."""
Again = Callable[[Ending], tuple[dict[str, Any], Known] | None]
"""Asked after a bad end, when no rank is left: what the next attempt is told; None where there is to be none."""


class Supervisor:
    """The processes of an attempt, and of those that follow it in place.

    Args:
        job: what for.
        known: of the first attempt.
        owed: a rank that ends with status 0 and without "done" is lost.
        others: the other nodes of the launch.
    """

    def __init__(self, job: Job, known: Known, *, owed: bool, others: SingleNode | None = None) -> None:
        family.become_subreaper()
        family.exclude_from_run(child.pid for child in descendants(os.getpid()))
        self._known = known
        self._requires_done_message = owed
        self._others = others or SingleNode()
        self._attempt = job.log.parent
        self._outputs = job.outputs
        self._mark = secrets.token_hex(8)
        self._memory_kills = memory_kills()
        self._socket = self._bound()
        self.port = int(self._socket.getsockname()[1])
        self._status, self._told = os.pipe()
        self._agent_order_pipe, self._order = os.pipe()
        self._agent = self._start(job)
        for descriptor in (self._told, self._agent_order_pipe):
            os.close(descriptor)
        self._socket.close()
        if job.outputs is not None:
            job.outputs.release()
        self._buffer = b""
        self._seen: set[Process] = set()
        self._last_check = 0.0
        self._count = -1
        self._engine = -1
        self._all_done: float | None = None
        self._deadline: float | None = None
        self.ending = Ending()
        self.on_signal: Callable[[int], bool] = lambda _: False
        """Told of each signal; False where there is nothing gentler than to end everything."""
        self.on_idle_check: Callable[[Ending], None] = lambda _: None
        """Called now and then while nothing is wrong; on node 0 it may put a hang into the ending, which ends all."""
        self._signals: list[int] = []
        self.notes: list[str] = []
        """What people should know about the start; taken by whoever shows it."""

    def _bound(self) -> socket.socket:
        """Node 0's is the store's; the others' is not used."""
        address = self._others.address if self._others.decides else "127.0.0.1"
        return socket.create_server(
            (address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        )

    def _start(self, job: Job) -> subprocess.Popen[bytes]:
        ours = (self._agent_order_pipe, self._told, self._socket.fileno())
        environment = {
            **thread_environment(job.threads),
            **job.environment,
            family.RUN_MARK: self._mark,
            "LOCKSTEP_AGENT": " ".join([*map(str, ours), ",".join(job.modules)]),
        }
        if name := interface_of(self._others.address if self._others.decides else self._others.own):
            environment |= {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name}
        code = readable(AGENT_CODE)
        with job.log.open("ab") as output, held_back():  # a signal to every process is this one's to act on
            agent = subprocess.Popen(
                command(f"/dev/fd/{code}", job.room),
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
        self._count = self._others.total(int(order["processes"]))
        self._attempt = Path(order["attempt_dir"])
        if self._others.decides:
            self._others.tell(
                "go", attempt=self._attempt.name, port=self.port, max_restarts=order["max_restarts"]
            )
        meeting = {"address": self._others.address, "node": self._others.node, "nodes": self._others.nodes}
        self._tell({"port": self.port, **order, **meeting})

    def _tell(self, order: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):
            os.write(self._order, (json.dumps(order) + "\n").encode())

    def end_ranks(self) -> bool:
        """Kill the ranks and all that they have started, not the agent; whether none is left to meet the next ones."""
        deadline = time.monotonic() + _END_SECONDS
        if self._others.decides:
            self._others.tell("end_ranks")
        while process_of(self._agent.pid) is not None and time.monotonic() < deadline:
            self._read_status(None, self._status)
            if self._others.decides:
                self._others.poll(self)
            below = {process for process in self._below_agent() if process.pid != self._engine}
            if not below and len(self.ending.stamps) == self._count:
                return True
            for process in below:
                family.kill(process)
            time.sleep(_BETWEEN_SECONDS)
        return False

    def ask_to_end(self, grace: float) -> None:
        """SIGTERM to every rank, not to what it has started; what is left of them after ``grace`` seconds is killed."""
        self._deadline = time.monotonic() + grace
        if self._others.decides:
            self._others.tell("terminate", grace=grace)
        for rank, pid in self.ending.pids.items():
            if rank not in self.ending.stamps:
                self._terminate(pid)

    def _terminate(self, pid: int) -> None:
        rank = process_of(pid)
        if rank is not None:
            family.kill(rank, signal.SIGTERM)

    def restart(self, order: dict[str, Any], known: Known) -> None:
        """Let the agent start the ranks once more, after ``end_ranks``.

        Args:
            order: what is different; ``attempt_dir`` at least.
            known: of the new attempt.
        """
        self._known, self._all_done, self.ending = known, None, Ending()
        self._attempt = Path(order["attempt_dir"])
        self._memory_kills = memory_kills()
        if self._others.decides:
            self._others.tell("restart", attempt=self._attempt.name)
        if self._outputs is not None:
            self._outputs.turn(self._attempt)
        self._tell(order)

    def cancel(self) -> None:
        """Kill whatever was started."""
        if self._order < 0:
            return
        mine = process_of(self._agent.pid)
        self._look()
        family.kill_processes(self._below_agent)
        if mine is not None:
            family.kill(mine)
        if self._agent.returncode is None:
            self._agent.wait()
        # Strays are those of an agent that was killed; else they have ended below it.
        strays = set if mine else family.orphaned_processes
        family.kill_processes(
            lambda: family.processes_with_mark(self._mark) | {p for p in self._seen if p.is_alive} | strays()
        )
        os.close(self._order)
        self._order = -1

    def _below_agent(self) -> set[Process]:
        return descendants(self._agent.pid)

    def watch(self, tick: Callable[[], None], again: Again | None = None) -> Ending:
        """Wait for the end, calling ``tick`` now and then; afterwards no process is left.

        Args:
            tick: called many times a second.
            again: decides whether ranks that have failed are started once more; without it they are not.
        """
        previous = {number: signal.signal(number, self._stop) for number in _STOPS}
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._status, selectors.EVENT_READ, self._read_status)
                agent = os.pidfd_open(self._agent.pid)
                selector.register(agent, selectors.EVENT_READ, self._agent_ended)
                for descriptor in self._outputs.readers() if self._outputs else ():
                    selector.register(descriptor, selectors.EVENT_READ, self._read_output)
                for link in self._others.links():
                    selector.register(link, selectors.EVENT_READ, self._hear_others)
                self._loop(selector, tick)
                while again is not None and self._goes_on(again, tick):
                    self._loop(selector, tick)
                os.close(agent)
        finally:
            if self._others.decides:
                self._others.tell("kill")
            self.cancel()
            os.close(self._status)
            if self._outputs is not None:
                self._outputs.drain()
            for number, handler in previous.items():
                signal.signal(number, handler)
        self.ending.memory_kills = memory_kills() - self._memory_kills
        tick()
        return self.ending

    def _goes_on(self, again: Again, tick: Callable[[], None]) -> bool:
        """After a failure: end the attempt, and begin the next one if there is to be one."""
        ending = self.ending
        if ending.signal is not None or ending.agent_status is not None or self._is_healthy():
            return False
        if ending.lost_node or not self._others.decides:
            return False
        if not self.end_ranks():
            return False
        ending.memory_kills = memory_kills() - self._memory_kills
        tick()
        if (following := again(ending)) is None:
            return False
        self.restart(*following)
        return True

    def _is_healthy(self) -> bool:
        return len(self.ending.done) == self._count and not self.ending.lost

    def _loop(self, selector: selectors.BaseSelector, tick: Callable[[], None]) -> None:
        self._began: float | None = None
        while self.ending.agent_status is None and self.ending.signal is None:
            for key, _ in selector.select(_POLL_SECONDS):
                key.data(selector, key.fd)
            self._obey()
            self._others.poll(self)
            tick()
            self._look()
            if not self._others.decides:
                self.on_idle_check(self.ending)
            if self.ending.told is not None or (self._others.decides and self._is_over()):
                return

    def _is_over(self) -> bool:
        """Whether the attempt is to end now; where ranks are lost, their cause may still be awaited."""
        ending = self.ending
        if self._all_ended():
            return True
        if self._deadline is not None and not ending.lost_node:
            ending.grace_exceeded = time.monotonic() > self._deadline
            return ending.grace_exceeded
        if not ending.lost and not ending.lost_node:
            self.on_idle_check(ending)
            return ending.hang is not None
        self._began = self._began or time.monotonic()
        known = ending.lost_node or self._known(ending)
        return time.monotonic() - self._began > (_GRACE_SECONDS if known else _CAUSE_SECONDS)

    def _all_ended(self) -> bool:
        """Every rank that was started has ended, or has done what it owed and hangs in its own clean-up."""
        ended = len(self.ending.stamps)
        if self._requires_done_message and len(self.ending.done) == self._count:
            self._all_done = self._all_done or time.monotonic()
            return ended == self._count or time.monotonic() - self._all_done > _END_SECONDS
        return ended == self._count

    def _look(self) -> None:
        """Remember the run's processes: if the agent dies, what it had started can no longer be found below it."""
        if time.monotonic() - self._last_check > _LOOK_SECONDS:
            self._seen = {p for p in self._seen if p.is_alive} | descendants(self._agent.pid)
            self._last_check = time.monotonic()

    def _agent_ended(self, selector: selectors.BaseSelector, descriptor: int) -> None:
        self._read_status(selector, self._status)
        self.ending.agent_status = self._agent.wait()
        selector.unregister(descriptor)

    def _hear_others(self, selector: selectors.BaseSelector, descriptor: int) -> None:
        self._others.poll(self)
        if all(link.fileno() != descriptor for link in self._others.links()):
            with suppress(KeyError, ValueError):  # closed meanwhile
                selector.unregister(descriptor)

    def _read_output(self, selector: selectors.BaseSelector, descriptor: int) -> None:
        if self._outputs is not None and not self._outputs.read(descriptor):
            selector.unregister(descriptor)

    def _read_status(self, _: selectors.BaseSelector | None, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        with suppress(BlockingIOError):
            while chunk := os.read(descriptor, 65_536):
                self._buffer += chunk
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message["kind"] == "ended":
                message["memory_kills"] = memory_kills() - self._memory_kills
            self._message(message)
            self._others.pass_on(message, self._attempt)

    def hear(self, message: dict[str, Any]) -> None:
        """Take what another node says of one of its ranks."""
        ending, rank = self.ending, int(message["rank"])
        ending.hosts[rank] = str(message["host"])
        if "account" in message:
            ending.accounts[rank] = message["account"]
        if "tail" in message:
            ending.remote_log_tails[rank] = message["tail"]
        ending.kills_elsewhere[rank] = message.get("memory_kills", 0)
        if message["kind"] != "started":
            self._message(message)
            if message["kind"] == "ended":
                ending.stamps[rank] = message["time_ns"]

    def _message(self, message: dict[str, Any]) -> None:
        ending, kind, rank = self.ending, message["kind"], message.get("rank", -1)
        if kind == "started":
            ending.pids[rank] = message["pid"]
            if self._deadline is not None:  # it was asked for before this rank was there
                self._terminate(message["pid"])
            if message["fresh"] not in ("", "asked for"):
                self.notes.append(f"rank {rank} is a fresh process, not a fork: {message['fresh']}")
        elif kind == "done":
            ending.done.add(rank)
        elif kind == "ended":
            self._rank_ended(rank, message["status"])
        elif kind == "engine":
            self._engine = message["pid"]
        elif kind == "engine ended":
            ending.agent_status = message["status"]

    def _rank_ended(self, rank: int, status: int) -> None:
        self.ending.stamps[rank] = time.time_ns()
        said = rank in self.ending.done
        if status == 0 and not self._requires_done_message:
            self.ending.done.add(rank)
            if not said:
                self.ending.silent.add(rank)
                self.notes.append(f"rank {rank} ended with status 0, but not as Python ends (os._exit?)")
        elif not said or (
            status and not self._requires_done_message
        ):  # what is done stays done, however its process ends
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

"""The supervisor of one node: starts the agent, watches the ranks, and decides every end. No torch here.

The agent reports each rank's start and end; a rank of ``launch train`` has to report "done" as well. The first bad end
stops everything, as soon as its cause is known. Supervisor and agent see each other's end by a pipe, and whichever is
left kills every process of the run, so that nothing stays.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...data.common import Process, descendants, held_back, process_of
from ..failures import AttemptEnd
from ..nodes import PeerLink, SingleNode, interface_of
from ..process import process_tree
from ..worlds import rank_environment
from .agent_start import (
    AGENT_CODE,
    AgentStart,
    agent_argv,
    bound_socket,
    memory_descriptor,
    thread_environment,
)
from .attempt_record import AttemptRecord
from .end_grace import EndGrace
from .handler import Handler
from .heard_signals import HeardSignals

_LATE_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 0.4  # for the other ranks' accounts of a failure, before all are killed
_CAUSE_SECONDS = 3.5  # for the cause, where only its victims have ended: all are to be gone within 5 s
_END_SECONDS = 5.0
_LOOK_SECONDS = 1.0
_BETWEEN_SECONDS = 0.01


class Supervisor:
    """The processes of an attempt, and of those that follow it in place.

    Args:
        start: of the agent.
        peers: the other nodes of the launch.
    """

    def __init__(self, start: AgentStart, peers: SingleNode) -> None:
        process_tree.become_subreaper()
        process_tree.exclude_from_run(child.pid for child in descendants(os.getpid()))
        self._requires_done = True
        self._peers = peers
        self._attempt = start.log.parent
        self._outputs = start.outputs
        self._mark = secrets.token_hex(8)
        self._socket = bound_socket(peers.address if peers.is_leader else "127.0.0.1")
        self.port = int(self._socket.getsockname()[1])
        self._status, self._agent_status_pipe = os.pipe()
        self._agent_order_pipe, self._order = os.pipe()
        self._agent = self._start(start)
        for descriptor in (self._agent_status_pipe, self._agent_order_pipe):
            os.close(descriptor)
        self._socket.close()
        if start.outputs is not None:
            start.outputs.release()
        self._buffer = b""
        self._descendants: set[Process] = set()
        self._last_check = 0.0
        self._engine = -1
        self._ranks = range(0)
        self._record = AttemptRecord(self._ranks, requires_done=self._requires_done)
        self._signal: int | None = None
        self._grace: EndGrace | None = None
        self._all_done_since: float | None = None
        self._lost_since: float | None = None
        self.signals = HeardSignals()

    def _start(self, start: AgentStart) -> subprocess.Popen[bytes]:
        data = [start.data.of_agent.fileno()] if start.data else []
        ours = (self._agent_order_pipe, self._agent_status_pipe, self._socket.fileno(), *data)
        environment = {
            **thread_environment(start.threads),
            **start.environment,
            process_tree.RUN_MARK: self._mark,
            "LOCKSTEP_AGENT": " ".join([*map(str, (os.getpid(), *ours)), ",".join(start.modules)]),
        }
        if name := interface_of(self._peers.address if self._peers.is_leader else self._peers.local_address):
            environment |= {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name}
        code = memory_descriptor(AGENT_CODE)
        with start.log.open("ab") as output, held_back():  # a signal to every process is this one's to act on
            agent = subprocess.Popen(
                agent_argv(f"/dev/fd/{code}", start.min_argv_bytes),
                stdin=None if start.stdin else subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(
                    code,
                    *ours,
                    *start.inherited_descriptors,
                    *(start.outputs.writers if start.outputs else ()),
                ),
                start_new_session=True,
                env={**rank_environment(os.environ), **environment},
            )
        os.close(code)
        return agent

    def start_ranks(self, order: dict[str, Any], *, requires_done: bool) -> None:
        """Let the agent start the ranks.

        Args:
            order: for the agent.
            requires_done: a rank that ends with status 0 and without "done" is lost.
        """
        self._requires_done = requires_done
        self._ranks = self._peers.known_ranks(int(order["processes"]))
        self._begin(order)
        if self._peers.is_leader:
            self._peers.send(
                "go", attempt=self._attempt.name, port=self.port, max_restarts=order["max_restarts"]
            )
        meeting = {"address": self._peers.address, "node": self._peers.node, "nodes": self._peers.nodes}
        self.tell_agent({"port": self.port, **order, **meeting})

    def restart(self, order: dict[str, Any]) -> None:
        """Let the agent start the ranks once more, when none is left.

        Args:
            order: what is different; ``attempt_dir`` at least.
        """
        self._begin(order)
        if self._peers.is_leader:
            self._peers.send("restart", attempt=self._attempt.name)
        if self._outputs is not None:
            self._outputs.switch_attempt(self._attempt)
        self.tell_agent(order)

    def _begin(self, order: dict[str, Any]) -> None:
        self._attempt = Path(order["attempt_dir"])
        self._record = AttemptRecord(self._ranks, requires_done=self._requires_done)
        self._all_done_since = self._lost_since = None

    @property
    def record(self) -> AttemptRecord:
        """What is known of the attempt."""
        return self._record

    def tell_agent(self, order: dict[str, Any]) -> None:
        """Give the agent an order."""
        with suppress(BrokenPipeError):
            os.write(self._order, (json.dumps(order) + "\n").encode())

    def watch(self, handler: Handler, *, ignore_late_signals: bool = False) -> AttemptEnd:
        """Wait for the end of the last attempt; afterwards no process is left.

        Args:
            handler: decides.
            ignore_late_signals: an outcome is recorded afterwards, which a second SIGTERM, as SLURM sends it at the
                end of a grace, must not cost. An interrupt still ends this process.
        """
        self.signals.listen()
        try:
            with selectors.DefaultSelector() as selector:
                agent = self._register(selector)
                end = self._watch_attempt(selector, handler)
                while (order := self._next_attempt(end, handler)) is not None:
                    self.restart(order)
                    end = self._watch_attempt(selector, handler)
                os.close(agent)
        finally:
            if self._peers.is_leader:
                self._peers.send("kill")
            self.kill_all()
            os.close(self._status)
            if self._outputs is not None:
                self._outputs.drain()
            self.signals.leave(but=_LATE_SIGNALS if ignore_late_signals else ())
        handler.tick()
        return replace(end, **self._record.memory_facts)

    def _register(self, selector: selectors.BaseSelector) -> int:
        """Have a message wake the watch; the descriptor of the agent's process."""
        selector.register(self._status, selectors.EVENT_READ)
        agent = os.pidfd_open(self._agent.pid)
        selector.register(agent, selectors.EVENT_READ)
        for descriptor in self._outputs.readers() if self._outputs else ():
            selector.register(descriptor, selectors.EVENT_READ, self._outputs)
        for link in self._peers.links():
            selector.register(link, selectors.EVENT_READ, link)
        return agent

    def _watch_attempt(self, selector: selectors.BaseSelector, handler: Handler) -> AttemptEnd:
        """Wait until the attempt is over."""
        self._lost_since = None
        while True:
            for key, _ in selector.select(_POLL_SECONDS):
                self._serve(selector, key, handler)
            self._read_status(handler)
            self._take_signals(handler)
            self._hear_peers(handler)
            handler.tick()
            if self._outputs is not None:
                self._outputs.follow_window(self._record.pids, self._record.end_times_ns)
            self._remember_processes()
            if (how := self._how_it_ended(handler)) is not None:
                return self._record.end(**how)

    def _serve(self, selector: selectors.BaseSelector, key: selectors.SelectorKey, handler: Handler) -> None:
        """Take what ranks have printed, and the end of the agent; messages are read on every turn."""
        if isinstance(key.data, PeerLink):
            if key.data.closed:
                with suppress(KeyError, ValueError):
                    selector.unregister(key.fileobj)
        elif key.data is not None:
            if not key.data.read(key.fd):
                selector.unregister(key.fd)
        elif key.fd != self._status:
            self._read_status(handler)
            self._record.note_agent_end(self._agent.wait())
            selector.unregister(key.fd)

    def _read_status(self, handler: Handler) -> None:
        """Take what the agent says of its ranks."""
        os.set_blocking(self._status, False)
        with suppress(BlockingIOError):
            while chunk := os.read(self._status, 65_536):
                self._buffer += chunk
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if message["kind"] == "ended":
                message |= self._record.memory_facts
            elif message["kind"] == "engine":
                self._engine = message["pid"]
            if note := self._record.take(message):
                handler.note(note)
            if message["kind"] == "started" and self._grace is not None:
                self._grace.send([message["pid"]])  # it was asked for before this rank was there
            self._peers.report_rank(message, self._attempt)

    def _hear_peers(self, handler: Handler) -> None:
        for node, message in self._peers.receive():
            if message["kind"] == "rank":
                if note := self._record.take_remote(message["message"], message["host"]):
                    handler.note(note)
            elif message["kind"] == "end_ranks":
                self._kill_ranks(handler)
            elif message["kind"] == "terminate":
                self.ask_ranks_to_end(message["signal"], message["grace"])
            else:
                handler.on_message(node, message)

    def _how_it_ended(self, handler: Handler) -> dict[str, Any] | None:
        """Return what ended the attempt, besides its ranks; None while it continues."""
        if self._record.agent_status is not None or self._signal is not None:
            # Where node 0 has said that it is over, its word counts: the engine may end of the same cause.
            return {
                "signal": self._signal,
                "lost_node": self._peers.lost_node,
                "leader_message": self._peers.leader_message,
            }
        if not self._peers.is_leader:
            handler.find_hang(self._record.member_pids, self._record.end_times_ns)
            message = self._peers.leader_message
            return None if message is None else {"leader_message": message}
        return self._how_node_0_ends_it(handler)

    def _how_node_0_ends_it(self, handler: Handler) -> dict[str, Any] | None:
        """Return what ``_how_it_ended`` does; where ranks are lost, their cause may still be awaited."""
        record, lost_node = self._record, self._peers.lost_node
        if self._all_ended():
            return {"lost_node": lost_node}
        if self._grace is not None and not lost_node:
            return {"grace_exceeded": True} if self._grace.is_over else None
        if not record.has_losses and not lost_node:
            hang = handler.find_hang(record.member_pids, record.end_times_ns)
            return None if hang is None else {"hang": hang}
        self._lost_since = self._lost_since or time.monotonic()
        known = lost_node or handler.is_cause_known(record.end())
        over = time.monotonic() - self._lost_since > (_GRACE_SECONDS if known else _CAUSE_SECONDS)
        return {"lost_node": lost_node} if over else None

    def _all_ended(self) -> bool:
        """Tell whether every rank has ended, or was done long enough ago to be hanging in its own clean-up."""
        if self._requires_done and self._record.all_done:
            self._all_done_since = self._all_done_since or time.monotonic()
            return self._record.all_ended or time.monotonic() - self._all_done_since > _END_SECONDS
        return self._record.all_ended

    def _next_attempt(self, end: AttemptEnd, handler: Handler) -> dict[str, Any] | None:
        """End an attempt that has failed, and ask whether there is to be another."""
        is_well = self._record.all_done and not end.lost
        if end.signal is not None or end.agent_status is not None or is_well:
            return None
        if end.lost_node or not handler.may_restart or not self._kill_ranks(handler):
            return None
        handler.tick()
        return handler.next_attempt(replace(end, **self._record.memory_facts))

    def _kill_ranks(self, handler: Handler) -> bool:
        """Kill the ranks and all that they have started, not the agent; whether none is left to meet the next ones."""
        deadline = time.monotonic() + _END_SECONDS
        if self._peers.is_leader:
            self._peers.send("end_ranks")
        while process_of(self._agent.pid) is not None and time.monotonic() < deadline:
            self._read_status(handler)
            if self._peers.is_leader:
                self._hear_peers(handler)
            below = {process for process in self._below_agent() if process.pid != self._engine}
            if not below and self._record.all_gone:
                return True
            for process in below:
                process.send_signal(signal.SIGKILL)
            time.sleep(_BETWEEN_SECONDS)
        return False

    def ask_ranks_to_end(self, number: int, grace: float) -> None:
        """Send a signal to every rank, which is killed after its grace; before any has begun, end all at once."""
        if not self._record.pids and self._peers.nodes == 1:
            self.interrupt(number)
            return
        self._grace = EndGrace(number, grace)
        if self._peers.is_leader:
            self._peers.send("terminate", signal=number, grace=grace)
        self._grace.send(self._living_ranks())

    def _living_ranks(self) -> list[int]:
        return [pid for rank, pid in self._record.pids.items() if rank not in self._record.end_times_ns]

    def interrupt(self, number: int) -> None:
        """End everything at once, as a signal asks for."""
        self._signal = number

    def kill_all(self) -> None:
        """Kill whatever was started."""
        if self._order < 0:
            return
        mine = process_of(self._agent.pid)
        self._remember_processes()
        process_tree.kill_processes(self._below_agent)
        if mine is not None:
            mine.send_signal(signal.SIGKILL)
        if self._agent.returncode is None:
            self._agent.wait()
        # Strays are of an agent that was killed; else they have ended below it.
        strays = set if mine else process_tree.orphaned_processes
        process_tree.kill_processes(
            lambda: (
                process_tree.processes_with_mark(self._mark)
                | {p for p in self._descendants if p.is_alive}
                | strays()
            )
        )
        os.close(self._order)
        self._order = -1

    def _below_agent(self) -> set[Process]:
        return descendants(self._agent.pid)

    def _remember_processes(self) -> None:
        """Remember the run's processes: if the agent dies, what it had started can no longer be found below it."""
        if time.monotonic() - self._last_check > _LOOK_SECONDS:
            alive = {process for process in self._descendants if process.is_alive}
            self._descendants = alive | descendants(self._agent.pid)
            self._last_check = time.monotonic()

    def _take_signals(self, handler: Handler) -> None:
        """Act on signals outside of their handler, and on the grace that ranks have after one."""
        while (number := self.signals.pop()) is not None:
            if not handler.on_signal(number):
                self.interrupt(number)
        if self._grace is not None:
            self._grace.tick(self._living_ranks())

"""What a supervisor has seen of an attempt so far; it alone writes here."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from ...data.common import process_of
from ...training.rank import WorldChange
from ..failures import AttemptEnd, memory_kills, memory_limit_hits


class AttemptRecord:
    """A record that turns the messages of an agent and of other nodes into the end of an attempt.

    Args:
        ranks: whose ends this node has to know of.
        requires_done: a rank that ends with status 0 and without "done" is lost.
    """

    def __init__(self, ranks: Iterable[int], *, requires_done: bool) -> None:
        self._members = set(ranks)
        self._joining: set[int] = set()
        """Started, of which the ranks do not know yet."""
        self._entering: set[int] = set()
        """Which the ranks have been told of."""
        self._ending: set[int] = set()
        """Which have no part in the training any more."""
        self.failed_joins: set[int] = set()
        """Processes that were to join, but have ended before the ranks knew of them."""
        self._requires_done = requires_done
        self._memory_kills = memory_kills()
        self._limit_hits = memory_limit_hits()
        self._done: set[int] = set()
        self._exited_without_finalizing: set[int] = set()
        self._exit_places: dict[int, str] = {}
        self._lost: dict[int, int | None] = {}
        self._left_out: dict[int, int | None] = {}
        """Those that were lost, and that the others are about to go on without."""
        self._unwritten_error_records: dict[int, dict[str, Any]] = {}
        self._remote_error_records: dict[int, dict[str, Any]] = {}
        self._tails: dict[int, str] = {}
        self._remote_hosts: dict[int, str] = {}
        self._remote_memory_kills: dict[int, int] = {}
        self._remote_machines: set[int] = set()
        self.pids: dict[int, int] = {}
        """Of this node's ranks that have started."""
        self.end_times_ns: dict[int, int] = {}
        """Rank to the time of its end."""
        self.agent_status: int | None = None

    @property
    def memory_kills(self) -> int:
        """How many processes the kernel has killed for lack of memory since the attempt began."""
        return memory_kills() - self._memory_kills

    @property
    def memory_facts(self) -> dict[str, Any]:
        """What is known of memory that ran out on this node, as fields of ``AttemptEnd``."""
        kills = self.memory_kills
        machine = kills > 0 and memory_limit_hits() == self._limit_hits
        return {"memory_kills": kills, "machine_out_of_memory": machine}

    @property
    def all_done(self) -> bool:
        """Whether every rank has done what was required of it."""
        return bool(self._members) and self._members <= self._done

    @property
    def all_ended(self) -> bool:
        """Whether every rank that was started has ended."""
        return bool(self._members) and self._members <= self.end_times_ns.keys()

    @property
    def member_pids(self) -> dict[int, int]:
        """Of the ranks that train: without those that are to join, and those that are to leave and have."""
        return {rank: pid for rank, pid in self.pids.items() if rank in self._members}

    @property
    def has_losses(self) -> bool:
        """Whether a rank has ended before it was done, and the others do not go on without it."""
        return bool(self._lost)

    @property
    def killed(self) -> dict[int, int]:
        """Ranks that a signal has ended, with their wait status; none where one has ended otherwise."""
        found = {rank: status for rank, status in self._lost.items() if status is not None and status & 0x7F}
        return found if len(found) == len(self._lost) else {}

    def take(self, message: dict[str, Any]) -> str:
        """Take what the agent says of one of this node's ranks; a note for users, or nothing."""
        kind, rank = message["kind"], message.get("rank", -1)
        if kind == "started":
            self.pids[rank] = message["pid"]
            if message["fresh"] not in ("", "asked for"):
                return f"rank {rank} is a fresh process, not a fork: {message['fresh']}"
        elif kind == "done":
            self._done.add(rank)
            if message.get("at"):
                self._exit_places[rank] = str(message["at"])
        elif kind == "ended":
            return self._rank_ended(rank, message["status"])
        elif kind == "note":
            return str(message["text"])
        elif kind == "error":
            self._unwritten_error_records[rank] = message["account"]
        elif kind == "engine ended":
            self.agent_status = message["status"]
        return ""

    def note_agent_end(self, status: int) -> None:
        """Note that the agent has ended: with it, the attempt."""
        self.agent_status = status

    def take_remote(self, message: dict[str, Any], host: str) -> str:
        """Take what another node says of one of its ranks; a note for users, or nothing."""
        rank = int(message["rank"])
        self._remote_hosts[rank] = host
        if "account" in message:
            self._remote_error_records[rank] = message["account"]
        if "tail" in message:
            self._tails[rank] = message["tail"]
        self._remote_memory_kills[rank] = message.get("memory_kills", 0)
        if message.get("machine_out_of_memory"):
            self._remote_machines.add(rank)
        if message["kind"] == "started":
            return ""
        note = self.take(message)
        if message["kind"] == "ended":
            self.end_times_ns[rank] = message["time_ns"]
        return note

    @property
    def all_gone(self) -> bool:
        """Whether nothing of the attempt is left: no rank, none that was to join, none that has left."""
        return (
            self.all_ended
            and not (self._joining or self.are_ending)
            and self._entering <= self.end_times_ns.keys()
        )

    @property
    def are_ending(self) -> bool:
        """Whether a process lives on that has no part in the training any more."""
        return bool(self._ending)

    def await_joining(self, change: WorldChange) -> None:
        """Expect processes that are to join by a change: an early end of theirs is not a loss."""
        self._joining, self.failed_joins = {*change.joining}, set()

    def cancel_joining(self) -> None:
        """Note that those that were to join are to end."""
        self._ending |= self._joining
        self._joining = set()

    def begin_change(self, change: WorldChange) -> None:
        """Note that the ranks have been told of a change: from now on they need those that join."""
        self._joining, self._entering = set(), {*change.joining}

    def begin_rescue(self, change: WorldChange) -> None:
        """Note that the others are to go on without those that have died."""
        self._left_out = {rank: self._lost.pop(rank) for rank in change.leaving}

    def end_change(self, change: WorldChange) -> None:
        """Note that the ranks have finished a change: who leaves has no part in the training any more."""
        self._members, self._entering, self._left_out = {*change.after}, set(), {}
        self._ending |= {*change.leaving}
        for rank in self._ending & self.end_times_ns.keys():
            self._forget(rank)

    def _forget(self, rank: int) -> None:
        """Forget a process: another one may get its number."""
        for ranks in (self._ending, self._joining, self._done):
            ranks.discard(rank)
        self.pids.pop(rank, None)
        self.end_times_ns.pop(rank, None)

    def _rank_ended(self, rank: int, status: int) -> str:
        if rank in self._joining:
            self.failed_joins.add(rank)
        elif rank not in self._ending:
            return self._take_end(rank, status)
        self._forget(rank)
        return ""

    def _take_end(self, rank: int, status: int) -> str:
        self.end_times_ns[rank] = time.time_ns()
        said = rank in self._done
        if status == 0 and not self._requires_done:
            self._done.add(rank)
            if not said:
                self._exited_without_finalizing.add(rank)
                return f"rank {rank} ended with status 0, but not as Python ends (os._exit?)"
        elif not said or (status and not self._requires_done):  # what is done stays done
            self._done.discard(rank)
            self._lost[rank] = status
        return ""

    def end(self, **how: Any) -> AttemptEnd:
        """Build the end of the attempt as it is known now.

        Args:
            how: what ended it, besides its ranks: fields of ``AttemptEnd``.
        """
        return AttemptEnd(
            done=frozenset(self._done & self._members),
            exited_without_finalizing=frozenset(self._exited_without_finalizing),
            exit_places=MappingProxyType(dict(self._exit_places)),
            lost=MappingProxyType(self._left_out | self._lost),
            end_times_ns=MappingProxyType(dict(self.end_times_ns)),
            pids=MappingProxyType(dict(self.pids)),
            unwritten_error_records=MappingProxyType(dict(self._unwritten_error_records)),
            remote_error_records=MappingProxyType(dict(self._remote_error_records)),
            remote_log_tails=MappingProxyType(dict(self._tails)),
            remote_hosts=MappingProxyType(dict(self._remote_hosts)),
            remote_memory_kills=MappingProxyType(dict(self._remote_memory_kills)),
            remote_machines_out_of_memory=frozenset(self._remote_machines),
            **self.memory_facts,
            agent_status=self.agent_status,
            **how,
        )


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
        """Note that they have finished it."""
        self._supervisor.record.end_change(change)

    @property
    def are_ending(self) -> bool:
        """Whether a process lives on that has no part in the training any more."""
        return self._supervisor.record.are_ending

    @property
    def killed(self) -> dict[int, int]:
        """Those that a signal has ended, with their wait status; none where one has ended otherwise."""
        return self._supervisor.record.killed

    def begin_rescue(self, change: WorldChange) -> None:
        """Note that the others are to go on without those that have died."""
        self._supervisor.record.begin_rescue(change)

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

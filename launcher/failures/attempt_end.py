"""How the ranks of an attempt ended, as the supervisor saw it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ...data.common import HangError

_BY_RANK = "look for a loop or an `if` that depends on the rank, such as batches that differ in number"
NO_WORD = "os._exit, or a library in C, ended it without an error of Python's"
_TOGETHER = "let all ranks leave at the same step, as after an all_reduce of the decision"


@dataclass(frozen=True)
class AttemptEnd:
    """The ends of an attempt's ranks so far; the supervisor alone makes one."""

    done: frozenset[int] = frozenset()
    """Ranks that reported to be done or, where no report is required, ended with status 0."""
    lost: Mapping[int, int | None] = field(default_factory=dict)
    """Rank to wait status, in the order of their ends, for ranks that ended before they were done."""
    end_times_ns: Mapping[int, int] = field(default_factory=dict)
    """Nanoseconds since 1970 at which a rank's end was seen."""
    exited_without_finalizing: frozenset[int] = frozenset()
    """Ranks that ended with status 0 without the interpreter's own end, as ``os._exit(0)`` does."""
    exit_places: Mapping[int, str] = field(default_factory=dict)
    """Where ranks have ended themselves with status 0, as by ``sys.exit()``: ``FILE:LINE``."""
    pids: Mapping[int, int] = field(default_factory=dict)
    agent_status: int | None = None
    signal: int | None = None
    """The signal that asked the supervisor to end everything at once."""
    grace_exceeded: bool = False
    """Whether ranks that were asked to end had not when their grace was over."""
    unwritten_error_records: Mapping[int, dict[str, Any]] = field(default_factory=dict)
    """What ranks of this node have sent of their failure, because the disk had no room for it."""
    remote_error_records: Mapping[int, dict[str, Any]] = field(default_factory=dict)
    """What ranks of other nodes have written about their failure, in this node's time."""
    remote_log_tails: Mapping[int, str] = field(default_factory=dict)
    """The last bytes of their logs."""
    remote_hosts: Mapping[int, str] = field(default_factory=dict)
    """Where the ranks of other nodes run."""
    lost_node: str = ""
    """Which other node was lost, in words; empty while all are there."""
    leader_message: Mapping[str, Any] | None = None
    """On a node that follows: what node 0 has said of the end, or ``{"lost": why}``."""
    hang: HangError | None = None
    memory_kills: int = 0
    """Processes that the kernel killed meanwhile for lack of memory, in this control group."""
    remote_memory_kills: Mapping[int, int] = field(default_factory=dict)
    """The same on the node of each rank elsewhere, as of that rank's end."""
    machine_out_of_memory: bool = False
    """Whether they were killed though no control group had reached its limit."""
    remote_machines_out_of_memory: frozenset[int] = frozenset()
    """Ranks elsewhere of whose node that is true."""

    @property
    def is_well(self) -> bool:
        """Whether no rank was lost, none hung, and nobody ended them."""
        ended = self.signal is not None or self.agent_status is not None or bool(self.lost_node)
        return not (self.lost or ended or self.grace_exceeded) and self.hang is None


def memory_kills_at(end: AttemptEnd, rank: int) -> int:
    """Return how many processes were killed for lack of memory on the node of a rank."""
    return end.remote_memory_kills.get(rank, 0) if rank in end.remote_hosts else end.memory_kills


def memory_place(end: AttemptEnd, rank: int) -> str:
    """Say whose memory had run out where a rank was killed."""
    if rank in end.remote_machines_out_of_memory if rank in end.remote_hosts else end.machine_out_of_memory:
        return "the machine was out of memory, and no control group of it at its limit"
    return "its control group was out of memory"


def memory_limit_hits() -> int:
    """Return how often this process's control group, or one around it, was at its limit so far."""
    total = 0
    for folder in dict.fromkeys(around for group in _groups() for around in (group, *group.parents)):
        with suppress(OSError, ValueError):  # version 2
            rows = dict(line.split() for line in (folder / "memory.events").read_text().splitlines())
            total += int(rows.get("oom", 0)) + int(rows.get("oom_group_kill", 0))
        with suppress(OSError, ValueError):  # version 1
            total += int((folder / "memory.failcnt").read_text())
    return total


def memory_kills() -> int:
    """Return how often the kernel has killed for lack of memory in this process's control group so far."""
    total = 0
    for folder in _groups():
        for name in ("memory.events", "memory.oom_control"):
            with suppress(OSError, ValueError):
                rows = dict(line.split() for line in (folder / name).read_text().splitlines())
                total = max(total, int(rows.get("oom_kill", 0)))
    return total


def _groups() -> list[Path]:
    """Return this process's folder in each hierarchy, and the roots as a container sees them."""
    root = Path("/sys/fs/cgroup")
    folders = [root, root / "memory"]
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            base = root / "memory" if "memory" in controllers.split(",") else root
            folders.append(base / path.lstrip("/"))
    return folders


class EarlyEnd(NamedTuple):
    """The rank that left first, how, and what to look for."""

    rank: int
    how: str
    advice: str


def early_end(end: AttemptEnd) -> EarlyEnd | None:
    """Find the rank that left first, those that left without Python's own end before others; None where none has."""
    if not end.done:
        return None
    silent = end.exited_without_finalizing
    rank = min(end.done, key=lambda one: (one not in silent, end.end_times_ns.get(one, 0), one))
    if rank in silent:
        return EarlyEnd(rank, "by os._exit or the like", NO_WORD)
    if place := end.exit_places.get(rank):
        return EarlyEnd(rank, f"by sys.exit() or the like at {place}", _TOGETHER)
    return EarlyEnd(rank, "at the end of its script", f"its script was over before the others': {_BY_RANK}")

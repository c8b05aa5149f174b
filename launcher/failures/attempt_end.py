"""How the ranks of an attempt ended, as the supervisor saw it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...data.common import HangError


@dataclass
class Ending:
    """Filled while the ranks run; read by the diagnosis."""

    done: set[int] = field(default_factory=set)
    """Ranks that said so, or, where none is owed, ended with status 0."""
    lost: dict[int, int | None] = field(default_factory=dict)
    """Rank to wait status, in the order of their ends, for ranks that ended before they were done."""
    stamps: dict[int, int] = field(default_factory=dict)
    """Nanoseconds since 1970 at which a rank's end was seen."""
    silent: set[int] = field(default_factory=set)
    """Ranks that ended with status 0 without the interpreter's own end, as ``os._exit(0)`` does."""
    pids: dict[int, int] = field(default_factory=dict)
    agent_status: int | None = None
    signal: int | None = None
    """The signal that asked the supervisor to end everything at once."""
    grace_exceeded: bool = False
    """Whether ranks that were asked to end had not when their grace was over."""
    accounts: dict[int, dict[str, Any]] = field(default_factory=dict)
    """What ranks of other nodes have written about their failure, in this node's time."""
    remote_log_tails: dict[int, str] = field(default_factory=dict)
    """The ends of their logs."""
    hosts: dict[int, str] = field(default_factory=dict)
    """Where the ranks of other nodes run."""
    lost_node: str = ""
    """Which other node is gone, in words; empty while all are there."""
    told: dict[str, Any] | None = None
    """What node 0 has said of the end, on another node; or that it is lost."""
    hang: HangError | None = None
    """Ranks that wait for one that does not come; found by ``launcher/lookout.py``."""
    memory_kills: int = 0
    """Processes that the kernel killed meanwhile for want of memory, in this control group."""
    kills_elsewhere: dict[int, int] = field(default_factory=dict)
    """The same of another node, as of the end of each of its ranks."""


def memory_kills_at(ending: Ending, rank: int) -> int:
    """How many processes were killed for want of memory on the node of a rank."""
    return ending.kills_elsewhere.get(rank, 0) if rank in ending.hosts else ending.memory_kills


def memory_kills() -> int:
    """How often the kernel has killed for want of memory in this process's control group so far."""
    total = 0
    for folder in _groups():
        for name in ("memory.events", "memory.oom_control"):
            with suppress(OSError, ValueError):
                rows = dict(line.split() for line in (folder / name).read_text().splitlines())
                total = max(total, int(rows.get("oom_kill", 0)))
    return total


def _groups() -> list[Path]:
    """This process's folder in each hierarchy, and the roots as a container sees them."""
    root = Path("/sys/fs/cgroup")
    folders = [root, root / "memory"]
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            base = root / "memory" if "memory" in controllers.split(",") else root
            folders.append(base / path.lstrip("/"))
    return folders

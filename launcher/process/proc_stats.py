"""What /proc says of a rank: whether it is stopped, whether it is active, and where it is in the kernel.

Nothing here asks the process itself, which may be stopped.
"""

from __future__ import annotations

import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ...data.common import Process, descendants, read_proc, read_proc_stat, thread_ids

STOPPED, TRACED = "T", "t"
"""States of ``/proc/PID/stat``: by a signal; by a debugger."""
_GONE = ""
_TICKS = os.sysconf("SC_CLK_TCK")
_CPU_SHARE = 0.05
"""Share of a processor below which a process is idle: a thread that polls a thousand times a second uses 1 to 2 %."""
_TURN_NS = 300_000
"""A thread that computes runs as long as the scheduler lets it, 700 µs and more; one that polls runs for 50 µs."""
_IO_RATE = 1024
"""Bytes per second below which a process is idle: an occasional log line is not progress, a slow download is."""
_SWITCH_RATE = 5
"""Waits of the main thread per second below which it is idle; bytes read by ``recv`` are not counted elsewhere."""
_UNINTERRUPTIBLE = "D"
_SLEEPS = {"x86_64": ("35", "202", "230"), "aarch64": ("98", "101", "115")}
"""Numbers of the system calls ``nanosleep``, ``futex`` and ``clock_nanosleep``."""
_PAUSE = {"x86_64": "34"}
"""Number of the system call ``pause``: a signal would end it, so a process that waits there is not asked."""


@dataclass(frozen=True)
class Turns:
    """The turns that the scheduler has given one thread so far."""

    ran: int = 0
    """In nanoseconds."""
    queued: int = 0
    """In nanoseconds; ready to run, while others did."""
    count: int = 0
    """How often it came to run."""


@dataclass(frozen=True)
class ResourceUse:
    """The resources that a rank and all below it have used so far."""

    at: float
    """In seconds of ``time.monotonic``."""
    seconds: dict[int, float] = field(default_factory=dict)
    """Process to seconds on a processor."""
    turns: dict[int, Turns] = field(default_factory=dict)
    """Thread to its turns on a processor."""
    volume: dict[int, int] = field(default_factory=dict)
    """Process to bytes read and written."""
    switches: int = 0
    """How often the rank's main thread has waited for something."""


def process_state(process: Process) -> str:
    """Read the letter of a process's state; empty if it has ended."""
    stat = read_proc_stat(process.pid)
    if stat is None or stat.has_ended or stat.started != process.started:
        return _GONE
    return stat.state


def resource_use(root: int) -> ResourceUse:
    """Measure what ``root`` and its descendants have used."""
    pids = [root, *(process.pid for process in descendants(root))]
    return ResourceUse(
        time.monotonic(),
        {pid: _seconds(pid) for pid in pids},
        {thread: turns for pid in pids for thread, turns in _turns(pid)},
        {pid: _volume(pid) for pid in pids},
        _switches(root),
    )


def is_active(before: ResourceUse, now: ResourceUse) -> bool:
    """Tell whether a rank did real work between two measurements: computed, waited for a processor, or moved data."""
    span = max(now.at - before.at, 1e-3)
    switches = now.switches - before.switches
    return (
        _growth(before.seconds, now.seconds) + _queued(before, now) > _CPU_SHARE * span
        or _growth(before.volume, now.volume) > _IO_RATE * span
        or switches > max(_SWITCH_RATE * span, 2)
    )


def _growth(before: dict[int, float] | dict[int, int], now: dict[int, float] | dict[int, int]) -> float:
    """Sum the growth of what is there now; a process that has ended since takes nothing away."""
    return sum(max(0, value - before.get(pid, 0)) for pid, value in now.items())


def _queued(before: ResourceUse, now: ResourceUse) -> float:
    """Compute the seconds spent waiting for a processor: on a loaded machine a rank may get next to nothing.

    All of a main thread's waits count; those of other threads only if they compute once they run. Some poll ten times
    a second, for a moment each time, and waiting for that is not work.
    """
    total = 0
    for thread, turns in now.turns.items():
        earlier = before.turns.get(thread, Turns())
        ran, count = turns.ran - earlier.ran, turns.count - earlier.count
        if thread in now.seconds or ran > _TURN_NS * count:
            total += turns.queued - earlier.queued
    return total / 1e9


def _text(pid: int, name: str) -> str:
    try:
        return read_proc(f"{pid}/{name}")
    except OSError:
        return ""


def _rows(pid: int, name: str) -> dict[str, str]:
    rows = (line.partition(":") for line in _text(pid, name).splitlines())
    return {key: value.strip() for key, _, value in rows}


def _seconds(pid: int) -> float:
    stat = read_proc_stat(pid)
    return stat.cpu_ticks / _TICKS if stat is not None else 0.0


def _turns(pid: int) -> list[tuple[int, Turns]]:
    """Read the turns of each thread; none if the kernel does not say."""
    with suppress(OSError):
        said = {thread: _text(pid, f"task/{thread}/schedstat").split() for thread in thread_ids(pid)}
        return [(thread, Turns(*map(int, words))) for thread, words in said.items() if len(words) == 3]  # noqa: PLR2004 - fields of Turns
    return []


def _volume(pid: int) -> int:
    """Count bytes moved by system calls, and pages read from disk because memory was touched."""
    rows = _rows(pid, "io")
    return sum(int(rows.get(name, 0)) for name in ("rchar", "wchar", "read_bytes"))


def _switches(pid: int) -> int:
    return int(_rows(pid, "status").get("voluntary_ctxt_switches", 0))


def has_signal_handler(process: Process, number: int) -> bool:
    """Tell whether a process has a handler for this signal, which would kill it otherwise."""
    caught = _rows(process.pid, "status").get("SigCgt", "0")
    return process_state(process) != _GONE and bool(int(caught, 16) >> (number - 1) & 1)


def waits_for_signal(pid: int) -> bool:
    """Tell whether the main thread of a process waits for any signal."""
    return _text(pid, "syscall").split(" ")[0] == _PAUSE.get(platform.machine())


def is_held(root: int) -> bool:
    """Tell whether the kernel holds a thread of a process, or of one below it, until a disk or a driver answers."""
    pids = [root, *(process.pid for process in descendants(root))]
    return any(_UNINTERRUPTIBLE in _thread_states(pid) for pid in pids)


def _thread_states(pid: int) -> list[str]:
    with suppress(OSError):  # it has ended
        stats = [_text(pid, f"task/{thread}/stat") for thread in thread_ids(pid)]
        return [stat.rpartition(")")[2].split()[0] for stat in stats if stat]
    return []


def is_asleep(pid: int) -> bool:
    """Tell whether the main thread of a process sleeps, or waits for another thread; False where nobody says."""
    return _text(pid, "syscall").split(" ")[0] in _SLEEPS.get(platform.machine(), ())


def can_handle(process: Process, number: int) -> bool:
    """Tell whether a signal reaches a handler: the process runs, has one, and does not wait for any signal."""
    awake = process_state(process) not in (_GONE, STOPPED, TRACED)
    return awake and has_signal_handler(process, number) and not waits_for_signal(process.pid)


def has_open(pid: int, path: str) -> bool:
    """Tell whether a descriptor of the process leads to ``path``, or to a file below it if it ends with a star."""
    with suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                target = str(link.readlink())
                if target == path or (path.endswith("*") and target.startswith(path[:-1])):
                    return True
    return False


def describe_process(pid: int) -> list[str]:
    """Describe a process that cannot be asked, in the kernel's own terms."""
    rows = _rows(pid, "status")
    lines = [f"{name}: {rows[name]}" for name in ("Name", "State", "TracerPid", "Threads") if name in rows]
    held = _text(pid, "wchan").strip()
    lines += [f"wchan: {held}"] if held not in ("", "0") else []
    lines += [f"kernel: {line}" for line in _text(pid, "stack").splitlines()]
    below = sorted(process.pid for process in descendants(pid))
    return [*lines, *(f"child {child}: {_rows(child, 'status').get('State', 'gone')}" for child in below)]

"""What this machine says of a started world: the programs above this process, and what shows that it is over.

Only proof counts. In a container most of this cannot be seen, and what cannot be seen is not held against a world.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from ...data.common import read_proc_stat

_FIRST_NAMESPACE = 0xEFFF_FFFC  # of process numbers: PROC_PID_INIT_INO in the kernel's proc_ns.h
_CONNECT_SECONDS = 2.0
_TORCHRUN = re.compile(rb"torchrun|torch\.distributed\.(run|launch)|torch/distributed/run\.py")


def ancestors() -> dict[int, str]:
    """Return the processes above this one and the names of their programs, the nearest first."""
    found: dict[int, str] = {}
    pid = os.getppid()
    while pid > 0 and pid not in found:
        found[pid] = _program(pid)
        status = read_proc_stat(pid)
        pid = status.parent if status is not None else 0
    return found


def _program(pid: int) -> str:
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if _TORCHRUN.search(command):
            return "torchrun"
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
        return name.partition(".")[0]  # mpirun.openmpi
    return ""


def why_over(starter: str, environment: Mapping[str, str], above: Mapping[int, str]) -> str:
    """Return what proves that the world of a starter is over; empty where nothing does.

    Args:
        starter: as its reader names it.
        environment: with the starter's variables.
        above: as ``ancestors`` returns them.
    """
    check = _CHECKS.get(starter)
    return check(environment, above) if check is not None else ""


def _sees_all_processes() -> bool:
    with suppress(OSError):
        return Path("/proc/self/ns/pid").stat().st_ino == _FIRST_NAMESPACE
    return False


def _step_is_over(environment: Mapping[str, str], above: Mapping[int, str]) -> str:
    task, step = environment.get("SLURM_TASK_PID", ""), environment.get("SLURM_STEP_ID", "")
    if not (task.isdigit() and step) or not _sees_all_processes():
        return ""
    below = int(task) == os.getpid() or int(task) in above
    return "" if below else f"SLURM_TASK_PID={task}, and this process is not below that one"


def _mpirun_is_over(environment: Mapping[str, str], _: Mapping[int, str]) -> str:
    for name, value in sorted(environment.items()):
        place = re.search(r"tcp4://127\.0\.0\.1:(\d+)", value) if name.startswith("PMIX_SERVER_URI") else None
        if place and not _listens(int(place[1])):
            return f"{name}={value}, and nobody listens there"
    return ""


def _listens(port: int) -> bool:
    """Tell whether anybody listens at a port, without a connection, which a server would complain about."""
    wanted = f"{port:04X}"
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        with suppress(OSError):
            rows = [line.split() for line in Path(table).read_text(encoding="ascii").splitlines()[1:]]
            if any(row[1].endswith(f":{wanted}") and row[3] == "0A" for row in rows):
                return True
    return False


def _hydra_is_over(environment: Mapping[str, str], above: Mapping[int, str]) -> str:
    descriptor = environment.get("PMI_FD", "")
    if not descriptor.isdigit() or not _sees_all_processes():
        return ""
    if {"hydra_pmi_proxy", "pmi_proxy", "slurmstepd", "flux-shell"} & set(above.values()):
        return ""
    with suppress(OSError):
        if stat.S_ISSOCK(os.fstat(int(descriptor)).st_mode):
            return ""
    return f"PMI_FD={descriptor} is not an open socket, and no process manager is above this process"


def _torchrun_is_over(environment: Mapping[str, str], _: Mapping[int, str]) -> str:
    """Look whether the agent's store still answers; torch's own ranks connect to it just so."""
    host, port = environment.get("MASTER_ADDR", ""), environment.get("MASTER_PORT", "")
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or not (host and port.isdigit()):
        return ""
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except ConnectionRefusedError:
        return f"MASTER_ADDR={host} MASTER_PORT={port}, and torchrun's store does not listen there"
    except (OSError, OverflowError):
        return ""  # a network that is slow or closed proves nothing
    return ""


_CHECKS: dict[str, Callable[[Mapping[str, str], Mapping[int, str]], str]] = {
    "a SLURM step": _step_is_over,
    "Open MPI": _mpirun_is_over,
    "PMI": _hydra_is_over,
    "torchrun": _torchrun_is_over,
}

"""A real SLURM of two nodes on this machine alone: started, waited for, and ended with all that it started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ...data.common import MachineError, Process, UsageError, descendants, process_start_time
from ..process import is_held, kill_processes, try_lock
from ..slurm import CONF, SandboxRecord, SlurmError, ToolResult, read_record, run_tool, sandbox_processes
from ..worlds import tool_environment
from .daemon_keeper import MODULE, SBIN, commands, output_of
from .slurm_conf import NODES

LOCK = "sandbox.lock"
"""Held by the keeper as long as it lives; a folder without it is none of ours."""
_PACKAGES = {"munged": "munge", "slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm"}
_DAEMONS = {"munged", "slurmctld", "slurmd", "slurmstepd"}
_LONGEST_PATH = (
    80  # of the folder; a socket's path may have 107 bytes, and a step's is made of its node and number
)
_ROOM_BYTES = 64 << 20  # a daemon whose disk is full dies without a word
_UP_SECONDS = 90.0
_KEEPER_SECONDS = 20.0
_BETWEEN_SECONDS = 0.1
_TAIL_LINES = 12


def why_unavailable() -> str:
    """Explain why no sandbox can be started on this machine; empty if one can."""
    if os.geteuid() != 0:
        return "a SLURM has to be started by root"
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    missing = sorted(
        {package for name, package in _PACKAGES.items() if shutil.which(name, path=path) is None}
    )
    return f"Debian's {' and '.join(missing)} are not installed" if missing else ""


def up(folder: Path, *, uid: int = 0, guardian: int | None = None) -> SandboxRecord:
    """Start a sandbox and wait until both of its nodes are idle.

    Args:
        folder: where everything of it lies; it must not exist, be empty, or be what is left of a sandbox.
        uid: the user that it is for, besides root.
        guardian: a process with which the sandbox ends; None for one that stays.

    Raises:
        MachineError: it cannot be started here; with the end of the daemon's log where one failed.
        UsageError: one is up already in this folder, or the folder is something else.
    """
    _refuse(folder)
    if _is_ours(folder):
        down(folder)
    _make_room(folder)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not try_lock(lock):
        os.close(lock)
        raise UsageError(f"{folder}: a sandbox is being started here", "wait for it")
    try:
        try:
            _start_keeper(folder, lock, uid, guardian)
        finally:
            os.close(lock)  # the keeper has it now
        return _await_idle(folder)
    except BaseException:
        down(folder)
        raise


def _refuse(folder: Path) -> None:
    reason = why_unavailable()
    if reason:
        hint = "use sudo" if os.geteuid() else "apt-get install slurm-wlm munge"
        raise MachineError(f"the sandbox cannot be started: {reason}", hint)
    if len(os.fsencode(folder)) > _LONGEST_PATH:
        hint = "set LOCKSTEP_SLURM_SANDBOX to a shorter one"
        raise UsageError(
            f"{folder}: longer than {_LONGEST_PATH} bytes, and a socket in it cannot be named", hint
        )
    if is_up(folder):
        hint = "use it, or end it with `launch slurm-sandbox down`"
        raise UsageError(f"a sandbox is up already in {folder}", hint)
    if folder.exists() and not _is_ours(folder) and (not folder.is_dir() or any(folder.iterdir())):
        hint = "set LOCKSTEP_SLURM_SANDBOX to a folder that does not exist"
        raise UsageError(f"{folder}: not a sandbox, and not an empty folder either", hint)


def _make_room(folder: Path) -> None:
    hint = "make room, or set LOCKSTEP_SLURM_SANDBOX to another folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)  # jobs of other users go through it
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise MachineError(f"{folder}: {error.strerror}", hint) from error
    if free < _ROOM_BYTES:
        with suppress(OSError):
            folder.rmdir()
        raise MachineError(
            f"{folder}: no space left: {free >> 20} MiB, and a SLURM needs {_ROOM_BYTES >> 20}", hint
        )


def is_up(folder: Path) -> bool:
    """Check whether a sandbox is up in this folder, or is being started."""
    return _is_ours(folder) and is_held(folder / LOCK)


def _is_ours(folder: Path) -> bool:
    return (folder / LOCK).is_file()


def _start_keeper(folder: Path, lock: int, uid: int, guardian: int | None) -> None:
    watched = [] if guardian is None else [str(guardian), str(process_start_time(guardian))]
    with output_of(folder, "keeper").open("wb") as output:
        done = subprocess.run(
            [sys.executable, "-P", "-m", MODULE, str(folder), str(uid), *watched],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=[lock],
            cwd="/",
            check=False,
        )
    if done.returncode:
        raise _failure(folder, "keeper", "ended at once")


def _await_idle(folder: Path) -> SandboxRecord:
    deadline = time.monotonic() + _UP_SECONDS
    while time.monotonic() < deadline:
        if not is_held(folder / LOCK):
            raise _failure(folder, "keeper", "ended at once")
        record = read_record(folder)
        if record is not None and record.ready:
            dead = [name for name in record.daemons if name not in record.living()]
            if dead:
                raise _failure(folder, dead[0], "ended at once")
            if set(node_states(folder).values()) == {"idle"}:
                return record
        time.sleep(_BETWEEN_SECONDS)
    raise _failure(folder, "slurmctld", f"has no two idle nodes after {_UP_SECONDS:g} s")


def _failure(folder: Path, daemon: str, what: str) -> MachineError:
    try:
        lines = output_of(folder, daemon).read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    except OSError as error:
        lines = [f"its log cannot be read: {error.strerror}"]
    name = " ".join(commands(folder).get(daemon, [daemon])[:1])
    label = name if name == daemon else f"{name} of {daemon}"
    return MachineError("\n".join([f"{label} {what}; the end of its log:", *lines]), "")


def node_states(folder: Path) -> dict[str, str]:
    """Ask the controller for each node's state: ``idle``, ``mixed``, ``down*``, …; empty while it is silent."""
    with suppress(SlurmError):
        answer = _ask(folder, "sinfo", "--noheader", "--Node", "--format", "%N %T")
        return dict(line.split() for line in answer.out.splitlines()) if not answer.status else {}
    return {}


def _ask(folder: Path, *command: str) -> ToolResult:
    """Ask this very cluster, whatever SLURM_CONF says."""
    return run_tool(
        command, None, {**tool_environment(os.environ), "SLURM_CONF": str(folder / CONF)}, timeout=20.0
    )


def start_nodes(folder: Path) -> None:
    """Start the nodes that do not run, and wait until they do.

    Raises:
        MachineError: the sandbox is not up, or a node ends at once.
    """
    record = read_record(folder)
    if record is None or "keeper" not in record.living():
        raise MachineError(f"{folder}: no sandbox is up here", "start one with `launch slurm-sandbox up`")
    os.kill(record.keeper.pid, signal.SIGHUP)
    deadline = time.monotonic() + _UP_SECONDS
    while time.monotonic() < deadline:
        record = read_record(folder) or record
        if set(NODES) <= record.living().keys():
            return
        time.sleep(_BETWEEN_SECONDS)
    raise _failure(folder, NODES[0], "does not run")


def down(folder: Path, *, patience: float = 0.0) -> bool:
    """End a sandbox, or what is left of one: its jobs, its daemons, all that they started, and its folder.

    Args:
        folder: the one that was given to ``up``.
        patience: seconds in which its jobs may end by themselves, after SIGTERM.

    Returns:
        Whether there was anything.

    Raises:
        MachineError: only root can, or something cannot be ended.
        UsageError: the folder is not a sandbox.
    """
    if not folder.exists():
        return False
    if os.geteuid() != 0:
        raise MachineError(f"the sandbox in {folder} can be ended by root alone", "use sudo")
    if not _is_ours(folder):
        raise UsageError(
            f"{folder}: not a sandbox: it has no {LOCK}", "look at what it is; nothing was removed"
        )
    record = read_record(folder)
    if record is not None and patience and "slurmctld" in record.living():
        _cancel_jobs(folder, patience)
    if record is not None:
        _end_keeper(record)
    left = kill_processes(lambda: _family(folder))
    shutil.rmtree(folder, ignore_errors=True)
    if left:
        numbers = ", ".join(str(process.pid) for process in sorted(left, key=lambda process: process.pid))
        raise MachineError(
            f"{folder}: processes that do not end: {numbers}", "the kernel holds them; look at dmesg"
        )
    return True


def _cancel_jobs(folder: Path, patience: float) -> None:
    deadline = time.monotonic() + patience
    with suppress(SlurmError):
        while jobs := _ask(folder, "squeue", "--noheader", "--format", "%A").raise_for_status().out.split():
            _ask(folder, "scancel", *sorted(set(jobs)))
            if time.monotonic() > deadline:
                return
            time.sleep(0.5)


def _end_keeper(record: SandboxRecord) -> None:
    """Ask it to end everything, and wait for it."""
    deadline = time.monotonic() + _KEEPER_SECONDS
    while "keeper" in record.living() and time.monotonic() < deadline:
        with suppress(ProcessLookupError):
            os.kill(record.keeper.pid, signal.SIGTERM)
        time.sleep(_BETWEEN_SECONDS)


def _family(folder: Path) -> set[Process]:
    """Find what a sandbox without a keeper has left: by its record, its files and its jobs' environment."""
    record = read_record(folder)
    roots = set(record.living().values()) if record else set()
    roots |= {*_daemons_in(folder), *sandbox_processes(folder)}
    return roots | {process for root in roots for process in descendants(root.pid)}


def _daemons_in(folder: Path) -> Iterable[Process]:
    """Find the daemons that have a file of this folder open: slurmstepd's environment cannot be read."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (path / "comm").read_text().strip() not in _DAEMONS:
                continue
            opened = [str(link.readlink()) for link in (path / "fd").iterdir()]
            if any(name.startswith(f"{folder}/") for name in opened):
                yield Process(int(path.name), process_start_time(int(path.name)))

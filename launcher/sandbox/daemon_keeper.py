"""The process that a sandbox's daemons belong to: it starts them, inherits what their jobs leave behind, and ends all.

It is a subreaper: what a job sends into the background comes back to it when the job's own parent has ended.
SIGTERM ends the sandbox and removes its folder; SIGHUP starts the nodes that do not run.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from ...data.common import Process, boot_id, descendants, process_of, process_start_time, write_json
from ..process import become_subreaper, kill_processes, reap
from ..slurm import CONF, RECORD, SandboxRecord
from .slurm_conf import NODES, write_files

MODULE = "lockstep.launcher.sandbox.daemon_keeper"
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where daemons lie; a user's PATH need not have it."""
_LOOK_SECONDS = 1.0
_MUNGE_SECONDS = 30.0


def commands(folder: Path) -> dict[str, list[str]]:
    """Return the command of each daemon, in the order in which they start; each stays in the foreground."""
    paths = {
        "socket": "munge.socket",
        "key-file": "munge.key",
        "pid-file": "munged.pid",
        "seed-file": "munged.seed",
    }
    munge = [f"--{option}={folder / name}" for option, name in paths.items()]
    conf = str(folder / CONF)
    return {
        "munged": ["munged", "--foreground", "--force", *munge],
        "slurmctld": ["slurmctld", "-D", "-f", conf],
        **{node: ["slurmd", "-D", "-f", conf, "-N", node] for node in NODES},
    }


def output_of(folder: Path, daemon: str) -> Path:
    """Return the log of a daemon, or of the keeper itself."""
    return folder / f"{daemon}.out"


class _Keeper:
    def __init__(self, folder: Path, uid: int) -> None:
        self._folder = folder
        self._children: list[subprocess.Popen[bytes]] = []
        me = Process(os.getpid(), process_start_time(os.getpid()))
        self._record = SandboxRecord(folder, boot_id(), uid, me)
        self._write()

    def start(self) -> None:
        """Start what does not run; what ends at once is seen by whoever waits for the sandbox."""
        living = self._record.living()
        for name, command in commands(self._folder).items():
            if name not in living:
                self._start(name, command)
        self._record = replace(self._record, ready=True)
        self._write()

    def _start(self, name: str, command: list[str]) -> None:
        with output_of(self._folder, name).open("ab") as output:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        self._children.append(child)
        daemons = {**self._record.daemons, name: Process(child.pid, process_start_time(child.pid))}
        self._record = replace(self._record, daemons=daemons)
        self._write()
        if name == "munged":
            self._await_munge(child.pid)

    def _write(self) -> None:
        """Write the record, readable for everyone who may use the sandbox."""
        path = self._folder / RECORD
        write_json(path, {**asdict(self._record), "folder": str(self._folder)})
        path.chmod(0o644)

    def _await_munge(self, pid: int) -> None:
        deadline = time.monotonic() + _MUNGE_SECONDS
        while (
            not (self._folder / "munge.socket").exists() and process_of(pid) and time.monotonic() < deadline
        ):
            time.sleep(0.02)


def _keep(keeper: _Keeper, guardian: Process | None, wake: int, seen: list[int]) -> None:
    """Keep the daemons until SIGTERM, or until the process that the sandbox was started for is gone."""
    while signal.SIGTERM not in seen and (
        guardian is None or process_start_time(guardian.pid) == guardian.started
    ):
        select.select([wake], [], [], _LOOK_SECONDS)
        while select.select([wake], [], [], 0)[0]:
            os.read(wake, 1024)
        reap()
        if signal.SIGHUP in seen:
            seen.remove(signal.SIGHUP)
            keeper.start()


def main(arguments: list[str], environment: Mapping[str, str]) -> None:
    """Keep a sandbox: FOLDER UID [GUARDIAN-PID GUARDIAN-START], in the background once its record is written."""
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os._exit(0 if os.read(reader, 1) else 1)  # nothing is read where the child has ended
    os.close(reader)
    folder, uid, *rest = arguments
    _run(Path(folder), int(uid), Process(int(rest[0]), int(rest[1])) if rest else None, environment, writer)


def _run(
    folder: Path, uid: int, guardian: Process | None, environment: Mapping[str, str], recorded: int
) -> None:
    seen: list[int] = []
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, lambda got, _: seen.append(got))
    become_subreaper()
    os.umask(0o022)  # jobs of every user read the configuration
    os.environ.clear()  # what the daemons inherit is no user's
    os.environ.update(
        PATH=f"{environment.get('PATH', '/usr/bin:/bin')}:{SBIN}", HOME="/root", LC_ALL="C.UTF-8"
    )
    write_files(folder)
    keeper = _Keeper(folder, uid)
    os.write(recorded, b"1")
    os.close(recorded)
    try:
        keeper.start()
        _keep(keeper, guardian, reader, seen)
    finally:
        kill_processes(lambda: descendants(os.getpid()))
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:], dict(os.environ))

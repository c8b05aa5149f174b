"""Asks for ``launch`` processes that are forked from one that has imported what they need: a start costs 4 s otherwise.

Everything from ``launch``'s own ``main`` on is the same (``programs/warm_start.py``). What an interpreter or a library
reads at its start cannot be given to a fork: with another environment, other limits or other signal handlers than this
process had at first, ``launch`` is started afresh. ``LOCKSTEP_TEST_START=fresh`` starts every one afresh.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.helpers.launch import LAUNCH, WATCHDOG
from tests.helpers.paths import ROOT

PROGRAM = "tests.helpers.programs.warm_start"
ROOM = 4096
"""Bytes of the server's command line; those of its forks are written there."""
SPARE = {"LOCKSTEP_TEST_ROOM": "." * 32_768}
"""A place for the environment of its forks, which other processes read in /proc."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
AT_START = {**dict.fromkeys(THREADS, "1"), "OMP_WAIT_POLICY": "PASSIVE", "PYTHONHASHSEED": "0"}
"""As an agent is started; a rank sets its own number of threads."""
READ_AT_START = (
    *("PYTHON", "OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_"),
    *("LD_", "MALLOC_", "GLIBC_", "LANG", "LC_", "TZ"),
    *("TORCH", "PYTORCH", "ACCELERATE_", "FSDP_", "HF_", "MPLBACKEND"),
    *("TYPER", "_TYPER", "TERMINAL_WIDTH", "FORCE_COLOR", "NO_COLOR", "PY_COLORS", "GITHUB_ACTIONS"),
)
"""Beginnings of the names of variables that Python, or a library while it is imported, reads."""
_SESSION = {name: value for name, value in os.environ.items() if not name.startswith(READ_AT_START)}
"""The rest of the server's own environment, without what a test adds: it is not a process of that test."""
_LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
_HEARD = tuple(
    number for number in signal.Signals if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGALRM)
)


class WarmProcess(subprocess.Popen[Any]):
    """A process that is a fork of the server's, as one of ``subprocess``.

    Args:
        server: the socket that takes jobs.
        job: what the server is told.
        options: of ``subprocess.Popen``; others than the streams, ``text`` and ``start_new_session`` are the job's.
    """

    def __init__(self, server: socket.socket, job: dict[str, Any], **options: Any) -> None:
        self._control, self._job = server, job
        super().__init__([*LAUNCH, *job["arguments"]], **options)

    def _execute_child(self, *about: Any) -> None:
        """Ask for the fork, where ``subprocess`` would make one."""
        streams = about[10:16]
        self._answer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        given = [
            os.dup(number if stream < 0 else stream)
            for number, stream in enumerate((streams[0], streams[3], streams[5]))
        ]
        socket.send_fds(self._control, [json.dumps(self._job).encode()], [*given, theirs.fileno()])
        theirs.close()
        for descriptor in given:
            os.close(descriptor)
        self._close_pipe_fds(*streams)  # type: ignore[attr-defined]
        self.pid = int(self._answer.recv(64))
        self._child_created = True

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """Return what ``os.waitpid`` would, of a process that is the server's child."""
        if wait_flags and not select.select([self._answer], [], [], 0)[0]:
            return 0, 0
        status = self._answer.recv(64)
        self._answer.close()
        return self.pid, int(status or signal.SIGKILL)

    def _internal_poll(self, *_about: Any, **_more: Any) -> int | None:
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                pid, status = self._try_wait(os.WNOHANG) if self.returncode is None else (0, 0)
                if pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


class WarmServer:
    """The process that others are forked from; it is started when the first one is asked for."""

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._state: Any = None

    def may_fork(self, env: Mapping[str, str]) -> bool:
        """Whether a fork is what a fresh process in this environment would be; starts the server."""
        if os.environ.get("LOCKSTEP_TEST_START") == "fresh" or "PYTHONHASHSEED" in env:
            return False
        state = _state_at_start(env)
        if self._server is None or self._server.poll() is not None:
            self._start(env)
            self._state = state
        return bool(state == self._state)

    def start(self, job: dict[str, Any], **options: Any) -> subprocess.Popen[Any]:
        """Fork a process for a job."""
        told = {"cwd": str(Path.cwd()), "environment": dict(os.environ), "arguments": [], **job}
        new_session = bool(options.pop("start_new_session", False))
        return WarmProcess(self._control, {**told, "umask": _umask(), "new_session": new_session}, **options)

    def _start(self, env: Mapping[str, str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = [sys.executable, "-P", "-u", "-m", PROGRAM, str(theirs.fileno()), "." * ROOM]
        path = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
        self._server = subprocess.Popen(
            program,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**_SESSION, **_read_at_start(env), **AT_START, **SPARE, "PYTHONPATH": path},
        )
        theirs.close()

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._control.close()
            self._server.wait(WATCHDOG)
            self._server = None


SERVER = WarmServer()
_OF_JOB = {"cwd", "env"}
_OF_POPEN = {"stdin", "stdout", "stderr", "text", "start_new_session", "bufsize"}


def start_launch(*arguments: str | Path, **options: Any) -> subprocess.Popen[Any]:
    """Start ``launch`` as ``subprocess.Popen`` would; by a fork where nobody can tell the difference."""
    environment = dict(options.get("env") or os.environ)
    if not options.keys() <= _OF_JOB | _OF_POPEN or not SERVER.may_fork(environment):
        return subprocess.Popen([*LAUNCH, *arguments], **options)
    job = {
        "arguments": [*map(str, arguments)],
        "cwd": str(options.pop("cwd", None) or Path.cwd()),
        "environment": environment,
    }
    options.pop("env", None)
    return SERVER.start(job, **options)


def start_program(name: str, more: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a program of ``tests/helpers/programs``, in a session of its own, that is talked to by stdin and stdout."""
    module, environment = f"tests.helpers.programs.{name}", {**os.environ, "OMP_NUM_THREADS": "1", **more}
    pipe = subprocess.PIPE
    options: dict[str, Any] = {"stdin": pipe, "stdout": pipe, "text": True, "start_new_session": True}
    if not SERVER.may_fork(os.environ):
        return subprocess.Popen([sys.executable, "-m", module], cwd=ROOT, env=environment, **options)
    return SERVER.start({"module": module, "cwd": str(ROOT), "environment": environment}, **options)


def run_launch(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``launch`` to its end, and capture its output as text."""
    pipe = subprocess.PIPE
    process = start_launch(
        *arguments, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, **options
    )
    with process:
        try:
            printed = process.communicate(timeout=WATCHDOG)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess([*LAUNCH, *arguments], process.returncode, *printed)


def _read_at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(READ_AT_START)}


def _state_at_start(env: Mapping[str, str]) -> Any:
    """What a process takes over at its start, and a fork of another process cannot."""
    return (
        _read_at_start(env),
        [resource.getrlimit(limit) for limit in _LIMITS],
        [signal.getsignal(number) == signal.SIG_IGN for number in _HEARD],
        signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        os.sched_getaffinity(0),
        os.geteuid(),
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

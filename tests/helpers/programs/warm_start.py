"""Starts ``launch`` by a fork, having imported what it needs. No test: ``tests/helpers/warm_launch.py`` starts it.

``python -P -u -m tests.helpers.programs.warm_start FD ROOM`` takes jobs from a socket, each of them JSON with
``arguments``, ``environment``, ``cwd``, ``umask`` and ``new_session``, and four descriptors: stdin, stdout, stderr,
and a socket for the answers, which are the number of the process and, once it has ended, its wait status. A job with a
``module`` is one of the programs beside this file, run as by ``python -m``.

What is forked runs ``cli.start.main`` and all that follows, as a fresh process does. Where it starts another process
of ours that imports torch, the agent above all, that one is forked as well instead of being executed.
"""

from __future__ import annotations

import lockstep.launcher.agent.rank_end  # isort: skip - what is registered first at exit is the last to be called

import atexit
import ctypes
import gc
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import accelerate  # noqa: F401 - with the next two, what an agent imports
import torch._dynamo
import torch.distributed  # noqa: F401

import lockstep.data.prepare
import lockstep.launcher.agent.agent
import lockstep.launcher.cli.app
import lockstep.launcher.cli.start
import lockstep.launcher.supervisor
import lockstep.launcher.train
import lockstep.training.worker
from lockstep.data.common import read_proc
from lockstep.launcher.agent.rank_process import set_process_title
from tests.helpers.launch import CODE
from tests.helpers.paths import ROOT

WORKER = "lockstep.training.worker"
MODULES = {
    "lockstep.data.prepare",
    "lockstep.data.sample_grid",
    "lockstep.data.sample_pictures",
    "lockstep.data.print_sources",
    "lockstep.launcher.sweep.point_process",
    "lockstep.training.inference.model_export",
    "lockstep.training.inference.replay",
}
"""Of the modules that ``launch`` runs by ``python -m``, those that import torch or start an agent."""
_PLACES = tuple(map(int, read_proc("self/stat").rpartition(")")[2].split()[45:49]))
"""Addresses: where the arguments and the environment of this process, and of its forks, begin and end."""
_PR_SET_MM, _PR_SET_MM_ARG_END = 35, 9
_GC_THRESHOLDS = gc.get_threshold()
_GIVEN = read_proc("self/environ").split("\0")
_OF_IMPORTS = {name: value for name, value in os.environ.items() if f"{name}={value}" not in _GIVEN}
"""What the modules have set while they were imported, ``TORCHINDUCTOR_CACHE_DIR`` for one."""
_execute: Callable[..., int] = subprocess._fork_exec  # type: ignore[attr-defined]


def fork_or_execute(args: Sequence[Any], *rest: Any) -> int:
    """Start a process for ``subprocess``: by a fork where its program is imported here. Returns its number."""
    pass_fds, cwd, variables = rest[2:5]
    arguments = [os.fsdecode(argument) for argument in args]
    environment = dict(os.environ) if variables is None else _environment(variables)
    program = _program(arguments, environment) if cwd is None else None
    if program is None:
        return _execute(args, *rest)
    pid = os.fork()
    if pid == 0:
        end_with(lambda: _start(arguments, environment, program, rest, pass_fds))
    return pid


def _start(
    arguments: list[str],
    environment: dict[str, str],
    program: Callable[[], int | None],
    rest: Sequence[Any],
    pass_fds: Sequence[int],
) -> int | None:
    move_streams((rest[5], rest[8], rest[10]))
    error_pipe = rest[12]  # of subprocess's own
    close_all_but({0, 1, 2, *pass_fds} - {error_pipe})
    if rest[14]:
        os.setsid()
    be_fresh(arguments, environment)
    os.environ.update(_OF_IMPORTS)
    return program()


def _environment(variables: Sequence[bytes]) -> dict[str, str]:
    parts = (os.fsdecode(variable).partition("=") for variable in variables)
    return {name: value for name, _, value in parts}


def _program(arguments: list[str], environment: Mapping[str, str]) -> Callable[[], int | None] | None:
    """Return what a process with these arguments would run, if it is imported here."""
    if arguments[0] != sys.executable or environment.get("PYTHONHASHSEED", "0") != "0":
        return None
    if WORKER in environment.get("LOCKSTEP_AGENT", "").split(" ")[-1].split(","):
        return lambda: _run_agent(arguments[2:])
    if arguments[1:3] == ["-P", "-m"] and arguments[3] in MODULES:
        return lambda: _run_module(arguments[3:])
    return None


def _run_agent(arguments: list[str]) -> int:
    sys.argv[:] = arguments
    return lockstep.launcher.agent.agent.main()


def _run_module(arguments: list[str]) -> None:
    sys.argv[:] = arguments
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # that it is imported already
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


def move_streams(sources: Sequence[int]) -> None:
    """Make these descriptors 0, 1 and 2; -1 leaves one as it is."""
    high = [source if source < 0 else os.dup(source) for source in sources]
    for target, source in enumerate(high):
        if source >= 0:
            os.dup2(source, target)


def close_all_but(kept: set[int]) -> None:
    """Close every other descriptor; those that are kept stay open in what is executed from here, too."""
    for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):
            if number not in kept:
                os.close(number)
            elif number > 2:
                os.set_inheritable(number, True)  # noqa: FBT003 - its only form


def be_fresh(arguments: list[str], environment: Mapping[str, str]) -> None:
    """Leave what a process has of its own: handlers, environment, name, random state."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN, None):
            signal.signal(number, signal.SIG_DFL)
            if number == signal.SIGINT:
                signal.signal(number, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    _show(arguments, environment)
    sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
    sys.modules["__main__"] = types.ModuleType("__main__")
    tempfile.tempdir = None
    random.seed()
    gc.set_threshold(*_GC_THRESHOLDS)
    gc.enable()


def _show(arguments: list[str], environment: Mapping[str, str]) -> None:
    """Let /proc show these, as far as there is room."""
    ctypes.CDLL(None).prctl(
        _PR_SET_MM, _PR_SET_MM_ARG_END, ctypes.c_ulong(_PLACES[1]), ctypes.c_ulong(0), ctypes.c_ulong(0)
    )
    set_process_title(arguments)
    room = _PLACES[3] - _PLACES[2]
    text = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environment.items())[:room]
    ctypes.memset(_PLACES[2], 0, room)
    ctypes.memmove(_PLACES[2], text, len(text))


def end_with(program: Callable[[], int | None]) -> NoReturn:
    """Run a program in a fork, and end as Python ends, except that no module is taken apart: that costs a second."""
    status = 1
    try:
        try:
            status = program() or 0
        except SystemExit as error:
            status = _status(error)
        except KeyboardInterrupt:
            traceback.print_exc()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        except BaseException:  # noqa: BLE001 - whatever leaves it, as Python itself does
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
    finally:
        os._exit(status & 0xFF)


def _status(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    print(error.code, file=sys.stderr)
    return 1


def launch(job: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Be the ``launch`` of a job, or a program of the tests."""
    move_streams(descriptors[:3])
    close_all_but({0, 1, 2})
    if job["new_session"]:
        os.setsid()
    os.chdir(job["cwd"])
    os.umask(job["umask"])
    if module := job.get("module"):
        be_fresh([sys.executable, "-m", module], job["environment"])
        sys.path.insert(0, str(ROOT))
        _run_module([module])
        return
    be_fresh([sys.executable, "-P", "-c", CODE, *job["arguments"]], job["environment"])
    sys.argv[:] = ["-c", *job["arguments"]]
    subprocess._fork_exec = fork_or_execute  # type: ignore[attr-defined]
    lockstep.launcher.cli.start.main()


class Server:
    """The process that is forked.

    Args:
        control: where jobs come from, until its end.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._answers: dict[int, socket.socket] = {}
        self._ended, ended = os.pipe()
        for end in (self._ended, ended):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(ended, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Take jobs, and tell the ends of what was started."""
        while True:
            ready = select.select([self._control, self._ended], [], [])[0]
            if self._ended in ready:
                os.read(self._ended, 4096)
                self._tell_ends()
            if self._control in ready:
                text, descriptors, *_ = socket.recv_fds(self._control, 1 << 20, 4)
                if not text:
                    return
                self._begin(json.loads(text), descriptors)

    def _begin(self, job: dict[str, Any], descriptors: list[int]) -> None:
        pid = os.fork()
        if pid == 0:
            end_with(lambda: launch(job, descriptors))
        self._answers[pid] = socket.socket(fileno=descriptors.pop())
        self._answers[pid].send(str(pid).encode())
        for descriptor in descriptors:
            os.close(descriptor)

    def _tell_ends(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                with self._answers.pop(ended[0]) as answer, suppress(BrokenPipeError):
                    answer.send(str(ended[1]).encode())


def main() -> None:
    """Serve until nobody asks any more."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    sys.path.remove(str(ROOT))  # a fresh process has it only where it is told so
    gc.disable()
    gc.collect()
    gc.freeze()
    Server(control).serve()


if __name__ == "__main__":
    main()

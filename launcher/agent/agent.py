"""The agent of one node: imports torch once, then starts the ranks by fork, and ends them all if it is left alone.

Started by the supervisor, which says in ``LOCKSTEP_AGENT`` how to reach it and what to import; that import overlaps
with the preparation of the data. The order to go comes as one line of JSON, and so does each order to start the ranks
again, once the supervisor has ended them; an end of file means that the supervisor is gone. Ranks are forked from the
top of ``main``: they have no frame of ours below them but that one, and end as the interpreter ends (``rank_end``).
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from ...data.common import descendants, die_with, outlive_parent
from ...training.rank import JOINING
from ..process import allow_marks, duplicate_high, process_tree
from . import training_rank
from .data_child import MODULE, DataChild
from .rank_end import shared_modules
from .rank_process import apply_rank_environment, detach_from_parent, set_process_title
from .script_rank import STATUS, run_program, send_status

_FRESH = (
    "import sys; sys.flags.safe_path or sys.path.pop(0); "  # a module of the user's must not shadow one of ours
    "from lockstep.launcher.agent.{module} import main; sys.exit(main(sys.argv[1:]))"
)
_FRESH_MARKED = _FRESH.replace(
    "from lockstep", "from lockstep.launcher.process import allow_marks; allow_marks(); from lockstep"
)


class RunInChild(BaseException):  # carries a child out of the agent's frames; no error
    """An exception in a forked child, which leaves the agent's frames before its task begins."""

    def __init__(self, task: Callable[[], int]) -> None:
        super().__init__()
        self.task = task


def main() -> int:
    """Wait for the order, start the ranks, report their ends; in a child, be one of them."""
    *descriptors, modules = os.environ.pop("LOCKSTEP_AGENT").split(" ")
    supervisor, order_fd, status_fd, listen_fd, *data_fd = map(int, descriptors)
    gc.disable()  # until a fork: collections in between would write to pages that are to be shared
    set_process_title([sys.executable, "-u", "lockstep-agent"])
    process_tree.become_subreaper()
    die_with(supervisor)  # an import of seconds looks at no pipe
    data = DataChild(data_fd, _fork)
    try:
        threads = _import(modules.split(","), data)
        outlive_parent()  # from here on it is an end of file that tells, and then there may be ranks to end
        data.serve_until(order_fd, lambda: _unsafe(threads))
        if not (line := _read_line(order_fd)):
            return 0
        data.finish()
        Agent(json.loads(line), order_fd, status_fd, listen_fd, threads).serve()
    except RunInChild as child:
        task = child.task
    return task()


def _import(modules: list[str], data: DataChild) -> set[str]:
    """Import what the ranks will need; return the threads that this has started, which are known to survive a fork.

    They are OpenBLAS's, which NumPy brings: it stops them before a fork and starts them after it. The preparation of
    the data starts as soon as what it needs is there.
    """
    before = _threads()
    importlib.import_module("numpy")
    known = _threads() - (before - {str(os.getpid())})
    for name in modules if len(before) == 1 else []:
        with suppress(ImportError):  # the rank will say it, if the program does need it
            importlib.import_module(name)
        if MODULE in sys.modules:
            data.start_if_asked(_unsafe(known))
    return known


def _threads() -> set[str]:
    return {path.name for path in Path("/proc/self/task").iterdir()}


def _read_line(fd: int) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(fd, 65_536)):
        line += byte
    return line


class Agent:
    """The process that ranks are forked from.

    Args:
        order: what to start.
        order_fd: its end of file says that the supervisor is gone.
        status_fd: where ends are reported.
        listen_fd: the store's socket, for the engine alone.
        threads: those that are known to bear a fork.
    """

    def __init__(
        self, order: dict[str, Any], order_fd: int, status_fd: int, listen_fd: int, threads: set[str]
    ) -> None:
        self._order = order
        self._order_fd = order_fd
        self._status_fd = status_fd
        self._listen_fd = listen_fd
        self._threads = threads
        self._ranks: dict[int, int] = {}
        self._environment: dict[str, str] = {}
        """Of one of the ranks."""
        self._engine = -1
        self._pid = os.getpid()
        self._events = EventLoop()

    def serve(self) -> NoReturn:
        """Start, watch and report, until the supervisor kills this process or is gone."""
        os.environ.update(self._order["environment"])
        os.umask(self._order["umask"])
        self._events.on_child(self._reap)
        self._events.on_read(self._order_fd, self._hear_supervisor)
        mine, theirs = socket.socketpair()
        self._engine = _fork(lambda: self._be_engine(theirs))
        theirs.close()
        os.close(self._listen_fd)
        send_status(self._status_fd, kind="engine", pid=self._engine)
        self._socket = mine
        self._events.on_read(mine.fileno(), self._hear_engine)
        self._events.run()

    def _hear_supervisor(self) -> None:
        """Take orders: for the next attempt, which the engine counts and starts, or for processes that join this."""
        line = _read_line(self._order_fd)
        if not line.endswith(b"\n"):
            self._end_all()
        for order in map(json.loads, line.splitlines()):
            if "joining" in order:
                self._start_joining(**order)
            else:
                self._begin_attempt(order)

    def _begin_attempt(self, order: dict[str, Any]) -> None:
        self._order |= order
        os.environ.update(self._order["environment"])
        message = {"attempt_dir": self._order["attempt_dir"]}
        self._socket.sendall((json.dumps(message) + "\n").encode())

    def _start_joining(self, joining: list[int], change: int, before: list[int]) -> None:
        """Start processes that join the ranks while they train. The engine could only start all of them anew."""
        asked = json.dumps({"change": change, "before": before})
        for number in joining:
            numbers = dict.fromkeys(("RANK", "LOCAL_RANK", "ROLE_RANK"), str(number))
            error_file = str(Path(self._order["attempt_dir"]) / f"elastic-error-{number}.json")
            own = {**numbers, "TORCHELASTIC_ERROR_FILE": error_file, JOINING: asked}
            self._start(number, {**self._environment, **own})

    def _is_orphaned(self) -> bool:
        """Return whether the supervisor is gone: nobody would end the ranks that are still to start."""
        poll = select.poll()
        poll.register(self._order_fd, 0)
        return bool(poll.poll(0))

    def _end_all(self) -> NoReturn:
        """Kill everything that was started: the supervisor is gone, and nothing else would end it."""
        mark = os.environ.get(process_tree.RUN_MARK, "")
        process_tree.kill_processes(lambda: descendants(os.getpid()) | process_tree.processes_with_mark(mark))
        os._exit(1)

    def _hear_engine(self) -> None:
        message = b""
        with suppress(ConnectionResetError):  # it ended before it had read everything
            message = _read_line(self._socket.fileno())
        if not message:
            self._events.remove_reader(self._socket.fileno())
            return
        for local_rank, environment in json.loads(message)["start"].items():
            if self._is_orphaned():
                self._end_all()
            self._environment = environment
            self._start(int(local_rank), environment)

    def _start(self, local_rank: int, environment: Mapping[str, str]) -> None:
        given = self._order["streams"]  # they stay open here: the next attempt writes to them, too
        streams = given[local_rank] if given else self._log(int(environment["RANK"]))
        unsafe = "asked for" if self._order["start"] == "exec" else _unsafe(self._threads)
        pid = (
            self._execute(streams, environment)
            if unsafe
            else _fork(lambda: self._be_rank(streams, environment))
        )
        rank = int(environment["RANK"])
        self._ranks[pid] = rank
        for stream in set(streams) - {0} if not given else ():
            os.close(stream)
        send_status(self._status_fd, kind="started", rank=rank, pid=pid, fresh=unsafe)

    def _log(self, rank: int) -> list[int]:
        """Return a rank's streams: nothing to read, and its log to write to."""
        path = Path(self._order["attempt_dir"]) / f"rank-{rank}.log"
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return [0, log, log]

    def _be_engine(self, theirs: socket.socket) -> Callable[[], int]:
        from .elastic_engine import run_engine

        self._events.close_in_child()
        os.set_inheritable(self._listen_fd, False)  # noqa: FBT003 - its only form
        return lambda: run_engine(self._order, self._listen_fd, theirs)

    def _be_rank(self, streams: list[int], environment: Mapping[str, str]) -> Callable[[], int]:
        order = self._order
        self._events.close_in_child()
        self._socket.detach()
        status = detach_from_parent(self._pid, streams, self._status_fd)
        apply_rank_environment(environment)
        attempt = Path(order["attempt_dir"])
        if order["program"]:
            allow_marks()
            set_process_title([sys.executable, "-u", *order["program"]])
            return lambda: shared_modules.run(lambda: run_program(order["program"], attempt, status))
        return lambda: training_rank.run(order["argv"], status)

    def _execute(self, streams: list[int], environment: Mapping[str, str]) -> int:
        """Start a fresh process instead of a fork."""
        order = self._order
        module = "script_rank" if order["program"] else "training_rank"
        rest = [order["attempt_dir"], *order["program"]] if order["program"] else order["argv"]
        code = (_FRESH_MARKED if order["program"] else _FRESH).format(module=module)
        command = [sys.executable, "-u", "-c", code, *rest]
        status = duplicate_high(self._status_fd)
        child = subprocess.Popen(
            command,
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            pass_fds=(status,),
            start_new_session=True,
            env={**os.environ, **environment, STATUS: str(status)},
        )
        os.close(status)
        child.returncode = 0  # it is waited for here, not by subprocess
        return child.pid

    def _reap(self) -> None:
        for pid, status in process_tree.reap():
            if pid in self._ranks:
                rank = self._ranks.pop(pid)
                send_status(self._status_fd, kind="ended", rank=rank, status=status)
            elif pid == self._engine:
                send_status(self._status_fd, kind="engine ended", status=status)


def _fork(task: Callable[[], Callable[[], int]]) -> int:
    """Fork; the child prepares itself with ``task`` and then leaves by way of ``RunInChild``."""
    shared_modules.freeze()
    with warnings.catch_warnings():  # of this very fork: its threads are known, or it would not happen
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    gc.enable()
    raise RunInChild(task())


class EventLoop:
    """A loop that calls back when something can be read, and when a child has ended."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def on_read(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever the descriptor can be read or is at its end."""
        self._selector.register(descriptor, selectors.EVENT_READ, callback)

    def remove_reader(self, descriptor: int) -> None:
        """Call back no more for this descriptor."""
        self._selector.unregister(descriptor)

    def on_child(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after one or more children have ended."""
        self._awake, end = os.pipe()
        os.set_blocking(self._awake, False)
        os.set_blocking(end, False)
        signal.set_wakeup_fd(end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        self._end = end

        def drain() -> None:
            with suppress(BlockingIOError):
                while os.read(self._awake, 512):
                    pass
            callback()

        self.on_read(self._awake, drain)

    def run(self) -> NoReturn:
        """Run until a callback ends it by an exception."""
        while True:
            for key, _ in self._selector.select():
                key.data()

    def close_in_child(self) -> None:
        """Close everything in a forked child, to which none of it belongs."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for descriptor in (self._awake, self._end):
            os.close(descriptor)


def _unsafe(known: set[str]) -> str:
    """Return why this process must not be forked; empty where it may be."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "CUDA is initialised"
    native = [_name(thread) for thread in sorted(_threads() - known)]
    python = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if native or python:
        names = ", ".join(dict.fromkeys(python or native))
        return f"threads are running that are not known to bear a fork: {names}"
    return ""


def _name(thread: str) -> str:
    with suppress(OSError):
        return Path(f"/proc/self/task/{thread}/comm").read_text().strip()
    return thread

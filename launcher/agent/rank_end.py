"""The end of a forked rank: all of Python's own that a program can observe, without undoing what all ranks share.

Python's own end (``Py_FinalizeEx``, then ``exit``) takes every imported module apart. In a forked rank nobody
observes that of modules which the agent had imported, but it writes to nearly all of the pages that the ranks share:
62,000 page faults and 1.3 s of processor time for each rank, against 3,000 and 0.03 s without (torch 2.14).

So Python's own end begins as ever: threads are joined, ``atexit`` is done, daemon threads stop, streams are flushed,
garbage is collected. From within that collection, which ``gc.callbacks`` reports, it is then finished here: the
modules that the program has imported itself, ``__main__`` above all, are taken apart in Python's order, and the
process ends by C's ``exit``, which does what libraries have registered since the fork.

What is left out: the end of objects that are held by a module of the agent's (``torch.something = MyObject()``), files
excepted, and the destructors of C libraries that the agent had loaded. A rank of ``--start exec`` shares nothing, and
leaves out nothing.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import ModuleType
from typing import Any

_FLUSH_FAILED = 120
"""The status with which Python ends where stdout or stderr cannot be flushed."""
_STDOUT_FAILED = "Exception ignored on flushing sys.stdout"
"""What Python says of that from 3.13 on, without the stream itself."""
_TRACKER_SECONDS = 2.0
_BETWEEN_SECONDS = 0.002
_OF_THE_IMPORT_SYSTEM = (
    "path", "argv", "ps1", "ps2", "last_type", "last_value", "last_traceback", "last_exc", "path_hooks",
    "path_importer_cache", "meta_path", "__interactivehook__",
)  # fmt: skip
"""Of ``sys``: what Python forgets before it takes modules apart, so that a ``__del__`` cannot import."""
_STREAMS = ("stdin", "stdout", "stderr")
_MAY_OBSERVE_C = ("LD_PRELOAD", "CUDA_INJECTION64_PATH", "NVTX_INJECTION64_PATH")
"""Profilers come by these; they write their findings when C's ``exit`` calls them."""


class SharedModules:
    """The modules that the agent has imported, and how a rank that was forked from it ends without undoing them."""

    def __init__(self) -> None:
        self._names: frozenset[str] = frozenset()
        self._last_name = ""
        self._builtins: frozenset[str] = frozenset()
        self._status: int | None = None
        self._has_threads = False
        self._left: list[weakref.ref[ModuleType]] = []
        self._finders: list[Any] = []

    def freeze(self) -> None:
        """Note what is shared, and keep collections from writing to it; called before each fork."""
        gc.freeze()
        self._finders = list(sys.path_importer_cache.values())  # freeing them would write to 8 MB
        if not self._names:
            _keep_torch_libraries()
            self._names = frozenset(sys.modules) - {"__main__", "__mp_main__"}
            self._last_name = next(reversed(sys.modules))
            self._builtins = frozenset(vars(sys.modules["builtins"]))

    def run(self, program: Callable[[], int]) -> int:
        """Run the program of a forked rank; the process is to end as soon as this has ended.

        Args:
            program: returns the exit status, or raises what Python is to end with.
        """
        _end_before_shared_destructors()
        try:
            self._status = program()
        except SystemExit as error:
            self._status = _status_of(error)
            raise
        except KeyboardInterrupt:
            self._status = -signal.SIGINT
            raise
        return self._status

    def after_exit_functions(self) -> None:
        """Do what follows the last function of ``atexit``: the first collection; the next one calls ``_collecting``."""
        if self._status is None:
            return
        gc.collect()
        self._has_threads = len(sys._current_frames()) > 1  # noqa: SLF001 - also knows threads that C has started
        self._watch_stdout()
        gc.set_threshold(0)
        gc.enable()  # a program may have disabled it, and then nothing would be called
        gc.callbacks.append(self._collecting)

    def _watch_stdout(self) -> None:
        """Have the failure of stdout's flush, which Python does on its own, noted."""
        stdout, show = id(sys.stdout), sys.unraisablehook

        def hook(unraisable: Any) -> None:
            of_stdout = id(unraisable.object) == stdout or unraisable.err_msg == _STDOUT_FAILED
            if of_stdout and sys.is_finalizing():
                self._status = _FLUSH_FAILED
            show(unraisable)

        sys.unraisablehook = hook

    def _collecting(self, phase: str, info: dict[str, Any]) -> None:
        """Give up the program's modules when Python's last collection starts, and finish when it stops."""
        if not sys.is_finalizing() or self._status is None:
            return
        if phase == "start":
            if not _flush(sys.stderr):
                self._status = _FLUSH_FAILED
            info["modules"] = self._given_up()  # the collector frees them: no frame of ours is in warnings
        else:
            self._finish(self._status)

    def _given_up(self) -> list[Any]:
        """Take out of ``sys`` what Python does, and the program's modules; a list is freed from its end."""
        held = [getattr(sys, name, None) for name in (*_OF_THE_IMPORT_SYSTEM, *_STREAMS)]
        for name in _OF_THE_IMPORT_SYSTEM:
            setattr(sys, name, None)
        sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
        modules = [sys.modules.pop(name) for name in self._names_of_program()]
        self._left = [weakref.ref(module) for module in modules if isinstance(module, ModuleType)]
        return [*held, *modules][::-1]

    def _names_of_program(self) -> list[str]:
        """List the modules that were imported since the fork, in order, without a look at the others."""
        found = []
        for name in reversed(sys.modules):
            if name == self._last_name:
                break
            if name not in self._names:
                found.append(name)
        main = [name for name in ("__main__", "__mp_main__") if name in sys.modules and name not in found]
        return [*main, *reversed(found)]

    def _finish(self, status: int) -> None:
        """End what the collection has left, and the process."""
        for reference in reversed(self._left):
            if (module := reference()) is not None:
                _clear(vars(module))
        _end_process_groups()
        for name in vars(sys.modules["builtins"]).keys() - self._builtins:
            delattr(sys.modules["builtins"], name)
        if not self._has_threads:  # one of them may have been stopped while it held the file's lock
            _close_files(gc.get_objects())
        _stop_resource_tracker()
        for stream in (sys.stdout, sys.stderr):
            if not _flush(stream):
                status = _FLUSH_FAILED
        if status < 0:
            os.kill(os.getpid(), -status)
            status = 128 - status  # the program has blocked the signal
        ctypes.PyDLL(None).exit(status)  # with the lock of the interpreter: no other thread runs


def _keep_torch_libraries() -> None:
    """Leave the operators registered that torch's own Python code has registered: a third of the time of an end."""
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]  # noqa: SLF001 - no other list
        if (found := finalizer.peek()) and getattr(found[1], "__module__", "") == "torch.library":
            finalizer.atexit = False


def _end_before_shared_destructors() -> None:
    """Have C's ``exit`` end the process when it comes to what was registered before now, its own files flushed.

    Functions that were registered last are called first, so those of libraries that the program loads are called.
    """
    libc = ctypes.CDLL(None)
    if any(name in os.environ for name in _MAY_OBSERVE_C) or not hasattr(libc, "on_exit"):
        return
    libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)  # noqa: SLF001 - a function of C
    libc.__cxa_atexit(ctypes.cast(libc.fflush, ctypes.c_void_p), None, None)  # noqa: SLF001


def _status_of(error: SystemExit) -> int:
    """Return the status with which Python ends for this."""
    if error.code is None:
        return 0
    if not isinstance(error.code, int):
        return 1
    fits_long = -(2**63) <= error.code < 2**63
    return (error.code if fits_long else -1) & 0xFF


def _flush(stream: Any) -> bool:
    """Flush one of the standard streams; False where that fails."""
    with suppress(Exception):
        if stream is None or getattr(stream, "closed", False):
            return True
        stream.flush()
        return True
    return False


def _clear(namespace: dict[str, Any]) -> None:
    """Empty a module's namespace in the order in which Python does: names with one leading underscore first."""
    for name in list(namespace):
        if name[:1] == "_" and name[1:2] != "_":
            namespace[name] = None
    for name in list(namespace):
        if name != "__builtins__":
            namespace[name] = None


def _end_process_groups() -> None:
    """Let go of process groups that the program has not destroyed, which NCCL's answer with a warning."""
    c10d = sys.modules.get("torch.distributed.distributed_c10d")
    if c10d is not None and c10d.is_initialized():
        _clear(vars(c10d))


def _close_files(objects: Iterable[object]) -> None:
    """Write what is left in buffers of files that nobody has closed, and that something of the agent's still holds."""
    files: list[Any] = [thing for thing in objects if issubclass(type(thing), io.IOBase)]
    # Those of Python classes are archives, most often: closed, they are complete.
    of_python = [file for file in files if type(file).__module__ != "_io"]
    text = [file for file in files if type(file) is io.TextIOWrapper]
    binary = [file for file in files if type(file) in (io.BufferedWriter, io.BufferedRandom)]
    for finish in [file.close for file in of_python] + [file.flush for file in text + binary]:
        with suppress(Exception):
            finish()


def _stop_resource_tracker() -> None:
    """Let multiprocessing's tracker remove what the program has left, before the supervisor ends what is left."""
    module = sys.modules.get("multiprocessing.resource_tracker")
    tracker = getattr(module, "_resource_tracker", None)
    pid, descriptor = getattr(tracker, "_pid", None), getattr(tracker, "_fd", None)
    if pid is None or descriptor is None:
        return
    with suppress(OSError):
        os.close(descriptor)
        deadline = time.monotonic() + _TRACKER_SECONDS
        while not os.waitpid(pid, os.WNOHANG)[0] and time.monotonic() < deadline:
            time.sleep(_BETWEEN_SECONDS)


shared_modules = SharedModules()
atexit.register(shared_modules.after_exit_functions)  # before all others, and so the last to be called

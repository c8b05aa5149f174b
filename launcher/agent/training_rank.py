"""A rank of ``launch train``: the worker, and the word "done" to the supervisor once its work is."""

from __future__ import annotations

import atexit
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from ...data.common import STOPPED, ignore_stop_signals
from ..machine import bind_rank
from ..process import install_stack_handler
from .script_rank import STATUS, send_error, send_status

_OF_ACCELERATE = ("ACCELERATE_", "FSDP_")
"""What ``accelerate launch`` leaves, and Accelerate reads by itself: its engine, its device, its precision."""


def run(argv: Sequence[str], status_fd: int) -> int:
    """Work as the worker that ``argv`` describes; return the exit status."""
    ignore_stop_signals()
    for name in [name for name in os.environ if name.startswith(_OF_ACCELERATE)]:
        del os.environ[name]  # the run's spec says the device and the precision
    worker = importlib.import_module("lockstep.training.worker")  # torch: only the process of a rank needs it
    rank = int(os.environ["RANK"])
    bind_rank(int(os.environ["LOCAL_RANK"]))
    if attempt := os.environ.get("LOCKSTEP_ATTEMPT_DIR"):
        install_stack_handler(Path(attempt), rank)
    if "--check" in argv:
        status = importlib.import_module("lockstep.training.check.run_checks").main(list(argv), worker.main)
    else:
        status = worker.main(list(argv), partial(send_error, status_fd))
    _flush()
    if status not in (0, STOPPED):
        os._exit(status)  # the clean-up of a broken process group can hang
    send_status(status_fd, kind="done", rank=rank)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch would call its workers' end in there a failure
    atexit._run_exitfuncs()  # noqa: SLF001 - the one part of that end that is wanted
    _flush()
    # The interpreter's own end would find "leaks" of libraries that were imported before the fork.
    os._exit(0)


def _flush() -> None:
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()


def main(argv: Sequence[str]) -> int:
    """Be a process of its own instead of a fork."""
    return run(argv, int(os.environ.pop(STATUS)))

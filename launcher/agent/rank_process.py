"""Makes a forked process what a freshly started ``python -u SCRIPT`` would be, before any of the user's code runs.

What a fork leaves behind, and a fresh process does not have: descriptors of the parent, its signal handlers, its
command line in ``ps``, its random state, one key of ``multiprocessing`` for all ranks. What stays different:
modules that were imported already (variables that are read at their import, ``OMP_NUM_THREADS`` for one, must be
set before ``launch``), and the seed of ``hash()``, which is the same in all ranks.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ...data.common import die_with, read_proc_stat, take_signals
from ..process import duplicate_high

_PR_SET_MM, _PR_SET_MM_ARG_END = 35, 9
_DEFAULT_SIGNALS = (
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def detach_from_parent(parent: int, streams: Sequence[int], status: int) -> int:
    """Leave the parent's session, streams, handlers and descriptors.

    Args:
        parent: the process that forked this one; when it ends, this one does.
        streams: descriptors that become 0, 1 and 2.
        status: the one other descriptor that is kept.

    Returns:
        The number that ``status`` has now.
    """
    die_with(parent)
    os.setsid()
    take_signals(_DEFAULT_SIGNALS, signal.SIG_DFL)
    take_signals([signal.SIGINT], signal.default_int_handler)
    kept = duplicate_high(status)
    for target, source in enumerate(streams):
        os.dup2(source, target)
    _close_all_but({0, 1, 2, kept})
    return kept


def _close_all_but(kept: set[int]) -> None:
    for number in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if number not in kept:
            with suppress(OSError):
                os.close(number)


def apply_rank_environment(environment: Mapping[str, str]) -> None:
    """Take a rank's environment, and randomness of its own."""
    os.environ.update(environment)
    multiprocessing.current_process().authkey = os.urandom(32)
    random.seed()
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()
    if torch := sys.modules.get("torch"):
        torch.default_generator.seed()


def set_process_title(argv: Sequence[str]) -> None:
    """Show ``argv`` in ``ps`` and /proc; what finds no room behind the parent's own arguments is cut off.

    The kernel keeps the place of the arguments; their end can be moved only with CAP_SYS_RESOURCE. Without it
    bytes of zero follow, which ``ps`` does not show.
    """
    sys.orig_argv[:] = argv
    stat = read_proc_stat("self")
    if stat is None:
        return
    with suppress(OSError, ValueError, IndexError):
        start, end = stat.arguments
        text = b"".join(os.fsencode(part) + b"\0" for part in argv)[: end - start - 1]
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, text, len(text))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(
            _PR_SET_MM,
            _PR_SET_MM_ARG_END,
            ctypes.c_ulong(start + len(text)),
            ctypes.c_ulong(0),
            ctypes.c_ulong(0),
        )


def argv_bytes(argv: Sequence[str]) -> int:
    """Return how many bytes ``set_process_title`` needs."""
    return sum(len(os.fsencode(part)) + 1 for part in argv)

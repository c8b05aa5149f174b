"""What a worker of torch's DataLoader does first of all.

A worker sends its batches from a thread, as files that the rank fetches through a socket. Where that fails, Python
prints the error and drops the batch, and the rank would wait for it for ever.
"""

from __future__ import annotations

import gc
import os
import secrets
import sys
import traceback
from collections.abc import Callable
from multiprocessing import connection, queues
from typing import Any

from ..common import shelter_worker

# A worker never frees what the rank has made: a process group that is garbage waits for its threads, which only the
# rank has, and that ends the worker by SIGSEGV. Any moment after the fork may be a collection's.
os.register_at_fork(after_in_child=gc.freeze)


def init_loader_worker(number: int, failed: Callable[[Exception], Any]) -> None:
    """Prepare a worker; it calls this before anything else.

    Args:
        number: of the worker, as torch counts them.
        failed: makes what is sent in place of a batch that cannot be.
    """
    shelter_worker(number)
    _use_abstract_sockets()
    _report_send_errors(failed)


def _use_abstract_sockets() -> None:
    """Use sockets of Linux's abstract namespace: a worker that is killed leaves none behind.

    By default they lie in the temporary folder, whose name must not be longer than 75 bytes for that; a cluster's often
    is. Connecting takes the process's key in either case.
    """
    connection.arbitrary_address = _address  # type: ignore[attr-defined]


def _address(_: str) -> str:
    return f"\0lockstep-{secrets.token_hex(16)}"


def _report_send_errors(failed: Callable[[Exception], Any]) -> None:
    """Replace a batch that cannot be sent by its error; if that cannot be sent either, end this process."""

    def replace(queue: Any, error: Exception, item: Any) -> None:
        traceback.print_exception(error)
        sys.stderr.flush()
        if not isinstance(item, tuple) or item[0] in sent:
            os._exit(1)
        sent.add(item[0])
        queue.put((item[0], failed(error)))

    sent: set[int] = set()
    queues.Queue._on_queue_feeder_error = replace  # type: ignore[attr-defined]  # noqa: SLF001 - made to be overridden

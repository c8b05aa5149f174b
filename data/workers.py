"""What a worker of torch's DataLoader is told when it begins.

A worker sends its batches from a thread, as files that the rank fetches through a socket in the temporary folder.
Where that fails, Python prints the error and forgets the batch, and the rank would wait for it for ever.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import queues, util
from typing import Any

from .signals import shelter_worker

_SOCKET_BYTES = 107  # of a socket's path: sun_path of unix(7), less its closing zero
_NAMES_BYTES = len("/pymp-12345678/listener-12345678")
_SHORT = "/tmp"  # noqa: S108 - a folder of a random name is made in it


def begin_worker(number: int, failed: Callable[[Exception], Any]) -> None:
    """Call it first of all in a worker.

    Args:
        number: of the worker, as torch counts them.
        failed: makes what is sent in place of a batch that cannot be.
    """
    shelter_worker(number)
    _shorten_sockets()
    _send_errors(failed)


def _shorten_sockets() -> None:
    """A temporary folder with a long name, as a cluster's often has, does not do for sockets: take another."""
    before = tempfile.gettempdir()
    if len(os.fsencode(before)) + _NAMES_BYTES <= _SOCKET_BYTES:
        return
    tempfile.tempdir = _SHORT
    try:
        with suppress(OSError):  # then it is an error when the first batch is sent
            util.get_temp_dir()  # which multiprocessing keeps, and removes at this process's end
    finally:
        tempfile.tempdir = before


def _send_errors(failed: Callable[[Exception], Any]) -> None:
    """Have a batch that cannot be sent replaced by its error; if that cannot be sent either, end this process."""

    def replace(queue: Any, error: Exception, item: Any) -> None:
        traceback.print_exception(error)
        sys.stderr.flush()
        if not isinstance(item, tuple) or item[0] in sent:
            os._exit(1)
        sent.add(item[0])
        queue.put((item[0], failed(error)))

    sent: set[int] = set()
    queues.Queue._on_queue_feeder_error = replace  # type: ignore[attr-defined]  # noqa: SLF001 - made to be overridden

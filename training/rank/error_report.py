"""A rank's report of the error that ended it: ``error-R.json`` in the attempt's folder."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ...data.common import (
    LockstepError,
    MemoryLimitError,
    RankLostError,
    TrainingError,
    disk_full_error,
    user_location,
    write_json,
)

Send = Callable[[dict[str, Any]], None]


def reported(
    work: Callable[[], int],
    attempt: Path,
    rank: int,
    after: Callable[[], None] | None = None,
    send: Send | None = None,
) -> int:
    """Run a rank's work and return its exit status; its error is written down before anything else can happen.

    Args:
        work: gives its own status.
        attempt: the attempt's folder.
        rank: this process's.
        after: what is left to do after an error.
        send: takes the report that the disk has no room for.
    """
    try:
        try:
            return work()
        finally:
            _reset_sigchld()
    except BaseException as error:  # noqa: BLE001 - whatever the user's code did is reported, not lost
        _reset_sigchld()  # the first time, another worker's end may have come in between
        status = report(error, attempt, rank, send)
        if after is not None:
            after()
        return status


def _reset_sigchld() -> None:
    """Remove torch's handler: it raises when a loader worker ends, wherever this process is, even in a report."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def report(error: BaseException, attempt: Path, rank: int, send: Send | None) -> int:
    """Write an error down, or send it where that cannot be done; return its exit status."""
    failure = known(error)
    document = _describe(failure, error, rank)
    try:
        write_json(attempt / f"error-{rank}.json", document, durable=True)
    except OSError:
        if send is not None:
            send(document)
    with suppress(OSError):
        traceback.print_exception(error)
    return failure.exit_status


def known(error: BaseException) -> LockstepError:
    """Return the error as one of ours: what is not ours came out of the training code."""
    if isinstance(error, LockstepError):
        return error
    if isinstance(error, SystemExit):
        return RankLostError(
            f"the training code called sys.exit({error.code!r}) before the work was done",
            "a function that a run calls returns, or raises an error; `launch stop` ends a run with a checkpoint",
        )
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        hint = (
            "set data.max_micro_batch, to a number or to auto: the global batch and the result stay the same"
        )
        return MemoryLimitError(f"out of memory: {error}", hint)
    full = disk_full_error(error) if isinstance(error, OSError) else None
    return full or TrainingError(f"{type(error).__name__}: {error}", "")


def _describe(failure: LockstepError, error: BaseException, rank: int) -> dict[str, Any]:
    return {
        **failure.to_json(),
        "rank": rank,
        "pid": os.getpid(),
        "time_ns": time.time_ns(),
        "type": type(error).__name__,
        "ours": isinstance(error, LockstepError),
        "where": user_location(error),
        "exit_status": failure.exit_status,
        "traceback": "".join(traceback.format_exception(error)),
    }

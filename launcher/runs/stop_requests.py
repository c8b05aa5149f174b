"""Requests to a running run: a file that ``launch stop`` writes and the run's supervisor takes.

It works from any machine that sees the run folder, and needs no signal.
"""

from __future__ import annotations

import json
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ...data.common import user_name, write_json

RequestKind = Literal["stop", "checkpoint", "cancel"]
_URGENCY: dict[RequestKind, int] = {"checkpoint": 0, "stop": 1, "cancel": 2}
_ENDING = ("stop", "cancel")
_ASKED = "request.json"
_TAKEN = "request.taken.json"


@dataclass(frozen=True)
class StopRequest:
    """A request to stop with a checkpoint, to write one and continue, or to end at once."""

    what: RequestKind
    time: float
    """In seconds since the epoch."""
    by: str
    """Who asked, in words."""


def write_request(folder: Path, what: RequestKind, by: str = "") -> StopRequest:
    """Write a request; it does not replace one for more: to cancel is more than to stop, and that than a checkpoint.

    Args:
        folder: of the run.
        what: to ask for.
        by: who asks, in words; this user and process by default.
    """
    waiting = _read(folder / _ASKED)
    if waiting is not None and _URGENCY[what] <= _URGENCY[waiting.what]:
        return waiting
    me = f"{user_name(os.getuid())} on {platform.node()} (process {os.getpid()})"
    request = StopRequest(what, time.time(), by or me)
    write_json(folder / _ASKED, asdict(request))
    return request


def take_request(folder: Path) -> StopRequest | None:
    """Take the pending request, once: whoever takes it has to fulfil it. None if there is none, or it is unreadable.

    Costs one failed system call if nothing is pending, so a supervisor may call it on every tick.
    """
    try:
        (folder / _ASKED).rename(folder / _TAKEN)
    except OSError:  # a folder that cannot be read just now; the run's lock notices if that lasts
        return None
    return _read(folder / _TAKEN)


def is_request_pending(folder: Path) -> bool:
    """Tell whether a request has not been taken yet."""
    return (folder / _ASKED).exists()


def record_stop_reason(folder: Path, by: str) -> None:
    """Record that the run is stopping for another reason than a request: a signal, a time limit.

    It stops, whether that can be recorded or not.
    """
    with suppress(OSError):
        write_json(folder / _TAKEN, asdict(StopRequest("stop", time.time(), by)))


def is_stopping(folder: Path) -> bool:
    """Tell whether the run was asked to stop since its launcher took the lock."""
    requests = (_read(folder / name) for name in (_ASKED, _TAKEN))
    return any(request is not None and request.what in _ENDING for request in requests)


def read_stop_reason(folder: Path) -> str | None:
    """Read who or what made the last attempt stop; None if nothing did."""
    taken = _read(folder / _TAKEN)
    return taken.by if taken is not None and taken.what in _ENDING else None


def clear_requests(folder: Path) -> None:
    """Forget what was asked of an attempt that is over: the next one must not stop at once."""
    for name in (_ASKED, _TAKEN):
        (folder / name).unlink(missing_ok=True)


def _read(path: Path) -> StopRequest | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document["what"] in get_args(RequestKind):
            return StopRequest(document["what"], float(document["time"]), str(document["by"]))
    return None

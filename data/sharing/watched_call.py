"""A call of a user's function, with what it costs and what it changes besides returning something."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cache import format_bytes
from .process_state import ProcessState
from .shared_value import NotShared, PackedValue, packed_value

_watching: ContextVar[bool] = ContextVar("watching", default=False)


@contextmanager
def watching(on: bool) -> Iterator[None]:  # noqa: FBT001 - says it all
    """Watch calls within, where they are to be shared."""
    token = _watching.set(on)
    try:
        yield
    finally:
        _watching.reset(token)


@dataclass(frozen=True)
class WatchedCall:
    """A record of a call: what there is to say of it besides what it returned."""

    seconds: float
    bytes: int
    """By how much the process has grown."""
    packed: PackedValue | None
    """What it returned, where other processes can have it."""
    why_not: str = ""
    """Why they cannot."""

    @property
    def cost(self) -> str:
        """Say what the call costs each process that makes it."""
        return f"{self.seconds:.1f} s and {format_bytes(self.bytes)}"


def watched(call: Callable[[], Any]) -> tuple[Any, WatchedCall | None]:
    """Make a call; return its result, and what it cost and changed where calls are watched."""
    if not _watching.get():
        return call(), None
    before, size, begin = ProcessState.now(), _resident_bytes(), time.monotonic()
    with _entropy_noted() as drawn:
        result = call()
    seconds, grown = time.monotonic() - begin, max(0, _resident_bytes() - size)
    change = drawn[0] if drawn else before.change_until(ProcessState.now())
    if change:
        return result, WatchedCall(seconds, grown, None, change)
    try:
        return result, WatchedCall(seconds, grown, packed_value(result))
    except NotShared as reason:
        return result, WatchedCall(seconds, grown, None, str(reason))


@contextmanager
def _entropy_noted() -> Iterator[list[str]]:
    """Note that random bytes are asked for, as by ``numpy.random.default_rng()``: each call returns other data then.

    Such data are no run's that can be resumed: every process that calls the function finds others, and says so.
    """
    noted: list[str] = []

    def urandom(count: int) -> bytes:
        noted.append("it draws random numbers that nobody has seeded")
        return known(count)

    known = os.urandom
    os.urandom = random._urandom = urandom  # type: ignore[attr-defined]  # noqa: SLF001
    try:
        yield noted
    finally:
        os.urandom = random._urandom = known  # type: ignore[attr-defined]  # noqa: SLF001


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

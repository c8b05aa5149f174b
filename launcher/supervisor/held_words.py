"""What ranks print while they die, held back until it is known whose words are the cause's.

Nothing here decides: ``Quoted`` says which ranks are to be quoted, and the logs have everything in any case.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..failures import Quoted
from ..process import Mark

_NATIVE = re.compile(rb"^\[rank\d+\]:\[[EF]\d{4} |^terminate called ", re.MULTILINE)
"""What torch's own threads write before they abort a process whose peer is gone; no exception of Python leaves it."""
_NATIVE_LINE = re.compile(
    rb"\[rank\d+\]:\[[EFW]\d{4} .*|terminate called .*|  what\(\): .*|Exception raised from .*|frame #\d+: .*|\s*"
)
_HOLD_SECONDS = 10.0
"""A rank whose error is known may not end for long: its words may be all there is to see."""


@dataclass
class _Held:
    """The held part of one stream of a rank."""

    since: float
    parts: list[tuple[Mark | None, bytes]] = field(default_factory=list)
    """Bytes in their order, each with what they are part of; None: of nothing that was marked."""
    open: Mark | None = None


class HeldWords:
    """The streams that are held back at the moment; each from where its rank began to die."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], _Held] = {}
        self._given_up: set[tuple[int, int]] = set()
        self._is_cause_awaited = False

    def await_cause(self) -> None:
        """Give nothing up: a rank has ended badly, and which words are shown is decided soon."""
        self._is_cause_awaited = True

    def mark(self, rank: int, stream: int, mark: Mark) -> None:
        """Begin to hold a stream back, or note that the marked part of it is over."""
        key = rank, stream
        if key not in self._given_up:
            held = self._held.setdefault(key, _Held(time.monotonic()))
            held.open = None if mark is Mark.END else mark

    def take(self, rank: int, stream: int, data: bytes) -> bytes:
        """Hold back what belongs to a rank's last words; return what comes before them."""
        key = rank, stream
        if key in self._given_up:
            return data
        if key not in self._held:
            native = _NATIVE.search(data)
            if native is None:
                return data
            self._held[key] = _Held(time.monotonic())
            before, data = data[: native.start()], data[native.start() :]
        else:
            before = b""
        held = self._held[key]
        held.parts.append((held.open, data))
        return before

    def overdue(self) -> Iterator[tuple[int, int, bytes]]:
        """Give up to hold back the words of ranks that have not ended in long, and yield them."""
        late = time.monotonic() - _HOLD_SECONDS
        for key, held in [] if self._is_cause_awaited else list(self._held.items()):
            if held.since < late:
                self._given_up.add(key)
                del self._held[key]
                yield *key, b"".join(data for _, data in held.parts)

    def release(self, quoted: Quoted | None) -> Iterator[tuple[int, int, bytes]]:
        """Yield what is to be shown of everything that is held, the quoted ranks' last; then nothing is held.

        Args:
            quoted: whose last words are shown; None: everybody's.
        """
        held, self._held = self._held, {}
        self._given_up.clear()
        self._is_cause_awaited = False
        for key in sorted(held, key=lambda key: (quoted is not None and key[0] in quoted.ranks, *key)):
            if data := _shown(held[key], key[0], quoted):
                yield *key, data


def _shown(held: _Held, rank: int, quoted: Quoted | None) -> bytes:
    if quoted is None:
        return b"".join(data for _, data in held.parts)
    is_quoted = rank in quoted.ranks
    hidden = set() if is_quoted else {Mark.ERROR, Mark.INTERRUPT}
    if not quoted.interrupts:
        hidden.add(Mark.INTERRUPT)
    return b"".join(
        data if mark or is_quoted else _without_native(data)
        for mark, data in held.parts
        if mark not in hidden
    )


def _without_native(data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join(line for line in lines if not _NATIVE_LINE.fullmatch(line.rstrip(b"\r\n")))

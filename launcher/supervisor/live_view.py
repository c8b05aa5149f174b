"""The live view of ``launch run``: rank 0 as it comes, and what other ranks say, once, with who says it.

Rank 0's stdout goes to stdout and its stderr to stderr, byte for byte, so that ``launch run … > out.txt`` gives what
``python … > out.txt`` would. Other ranks' lines go to stderr. A thread writes, because a terminal that is stopped
or a pager that waits must not stop the supervisor.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from ..console import LineMerger, bounded, describe_ranks, last_state, strip_control_characters
from ..failures import Quoted
from ..process import Mark
from .held_words import HeldWords
from .rank_outputs import ERR, OUT

_TOGETHER_SECONDS = 0.3  # lines of several ranks that are the same and come within this time are one
_QUEUED_BYTES = 2**24  # more than this waiting for the terminal is left out: the logs have it
_LINE_CHARACTERS = 2000
_UNFINISHED_BYTES = 2**16  # of a line without an end
_RETRY_SECONDS = 0.01
_HIDE, _SHOW = b"\x1b[?25l", b"\x1b[?25h"
"""The cursor, by a moving bar; a rank that is killed meanwhile does not bring it back."""


def _label(ranks: Sequence[int], text: str) -> str:
    return f"[{describe_ranks(list(ranks))}] {text}"


class LiveView:
    """A view of the ranks' output on a terminal; it is to be used by one thread.

    Args:
        label: writes a line that some ranks, but not rank 0, have printed.
    """

    def __init__(self, label: Callable[[Sequence[int], str], str] = _label) -> None:
        self._label = label
        self._queue: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._waiting = 0
        self._left_out = 0
        self._partial: dict[tuple[int, int], bytes] = {}
        self._merger = LineMerger()
        self._held = HeldWords()
        self._fresh: deque[tuple[float, int]] = deque()
        """How many lines began to wait at which time."""
        self._in_line = False
        self._hides_cursor = False
        self._same_place = _same_place()
        self._thread = threading.Thread(target=self._write, name="view", daemon=True)
        self._thread.start()

    def feed(self, rank: int, stream: int, data: bytes) -> None:
        """Show some bytes of a rank, unless they are its last words, which wait."""
        self._show(rank, stream, self._held.take(rank, stream, data))

    def mark(self, rank: int, stream: int, mark: Mark) -> None:
        """Take a mark between the bytes of a rank."""
        self._held.mark(rank, stream, mark)

    def _show(self, rank: int, stream: int, data: bytes) -> None:
        if not data:
            return
        if rank == 0:
            self._in_line = self._same_place and not data.endswith((b"\n", b"\r"))
            if _HIDE in data or _SHOW in data:
                self._hides_cursor = data.rfind(_HIDE) > data.rfind(_SHOW)
            self._enqueue(stream, data)
            return
        *lines, rest = (self._partial.get((rank, stream), b"") + data).split(b"\n")
        self._partial[rank, stream] = bounded(rest, _UNFINISHED_BYTES)
        for line in lines:
            self._hold_line(rank, line)

    def _hold_line(self, rank: int, line: bytes) -> None:
        """Hold a line back for a moment: other ranks may say the same."""
        text = strip_control_characters(last_state(line).decode(errors="replace"))
        self._merger.feed(rank, text[:_LINE_CHARACTERS])

    def tick(self, notes: list[str]) -> None:
        """Show what has been held back for long enough, and take the notes that there are."""
        for overdue in self._held.overdue():
            self._show(*overdue)
        self._flush(everything=False)
        while notes:
            self._line(f"note: {notes.pop(0)}")

    def _flush(self, *, everything: bool) -> None:
        now = time.monotonic()
        self._fresh.append((now, self._merger.fresh))
        while self._fresh and (everything or now - self._fresh[0][0] > _TOGETHER_SECONDS):
            self._fresh.popleft()
        for text, ranks in self._merger.ready(max_waiting=sum(count for _, count in self._fresh)):
            self._line(self._label(ranks, text))

    def _line(self, text: str) -> None:
        start = "\n" if self._in_line else ""
        self._in_line = False
        self._enqueue(ERR, f"{start}{text}\n".encode())

    def _enqueue(self, stream: int, data: bytes) -> None:
        if self._waiting > _QUEUED_BYTES:
            self._left_out += len(data)
            return
        if self._left_out:
            note = f"\n[launch: {self._left_out} bytes are left out here, the logs have them]\n".encode()
            data, self._left_out = note + data, 0
        self._waiting += len(data)
        self._queue.put((stream, data))

    def _write(self) -> None:
        closed = set()
        while (item := self._queue.get()) is not None:
            stream, data = item
            while data and stream not in closed:
                try:
                    data = data[os.write(stream, data) :]
                except BlockingIOError:  # another program made the terminal non-blocking
                    time.sleep(_RETRY_SECONDS)
                except OSError:  # nobody is left to read it
                    closed.add(stream)
            self._waiting -= len(item[1])

    def await_cause(self) -> None:
        """Hold last words back until the end of the attempt: a rank has failed."""
        self._held.await_cause()

    def finish_attempt(self, quoted: Quoted | None = None) -> None:
        """Show the rest of ranks that have ended; others may follow them.

        Args:
            quoted: whose last words are shown; None: everybody's.
        """
        self._finish_lines()
        for held in self._held.release(quoted):
            self._show(*held)
            self._finish_lines()

    def _finish_lines(self) -> None:
        for (rank, _), rest in self._partial.items():
            if rest:
                self._hold_line(rank, rest)
        self._partial.clear()
        self._flush(everything=True)

    def close(self) -> None:
        """Show the rest and wait until it is written."""
        self.finish_attempt()
        if os.isatty(ERR):
            self._enqueue(ERR, _SHOW * self._hides_cursor + b"\n" * self._in_line)
        self._queue.put(None)
        self._thread.join()


def _same_place() -> bool:
    """Tell whether stdout and stderr go to one terminal or file, where one can cut into a line of the other."""
    with suppress(OSError):
        return os.path.sameopenfile(OUT, ERR)
    return False

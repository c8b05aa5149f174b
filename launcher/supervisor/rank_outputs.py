"""What the ranks print: a file for each, and a view for users."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ...training.config import DEFAULT_LOG_MB
from ..console import print_messages
from ..process import Mark, MarkedStream
from .bounded_log import MB, BoundedLog
from .rank_terminal import Terminals

OUT, ERR = 1, 2
_PIPE_BYTES = 2**20  # a burst must not stop a rank; the kernel's default is 64 KiB
_CHUNK = 2**16
_F_SETPIPE_SZ = 1031


class OutputWatcher(Protocol):
    """A watcher of what ranks print, as it comes."""

    def feed(self, rank: int, stream: int, data: bytes) -> None:
        """Take some bytes of a rank's stdout (1) or stderr (2)."""

    def mark(self, rank: int, stream: int, mark: Mark) -> None:
        """Take a mark between the bytes of a stream."""


class RankOutputs:
    """The pipes of all ranks' streams; what comes through them is written to ``rank-R.log`` and shown.

    Args:
        folder: of the attempt.
        ranks: how many.
        watcher: is fed; without one nobody sees it, and both streams of a rank are one pipe, which keeps their order.
        first: of these ranks.
        max_mb: of each rank's log, which keeps its first and its last part.
        spare: how many more may join while they run.
        notify: called with a message about a log that has reached this.
    """

    def __init__(
        self,
        folder: Path,
        ranks: int,
        watcher: OutputWatcher | None,
        first: int = 0,
        *,
        max_mb: int = DEFAULT_LOG_MB,
        spare: int = 0,
        notify: Callable[[str], None] = lambda text: print_messages([f"note: {text}"]),
    ) -> None:
        self._watcher = watcher
        self._folder, self._ranks, self._first = folder, ranks, first
        self._max_bytes, self._notify = max_mb * MB, notify
        self._spare = spare
        self._logs: dict[int, BoundedLog] = {}
        self._terminals = None if first or watcher is None else Terminals(OUT, ERR)
        self._ends: dict[int, tuple[int, int]] = {}
        self._marked: dict[int, MarkedStream] = {}
        self.writers: list[int] = []
        """Two for each rank: stdout, stderr."""
        for rank in range(ranks + spare):
            self._add(rank, OUT)
            if watcher is None:
                self.writers.append(os.dup(self.writers[-1]))
            else:
                self._add(rank, ERR)

    def open_logs(self) -> None:
        """Make the ranks' logs, now that they start."""
        for rank in range(self._ranks):
            self._log(rank)

    def _log(self, rank: int) -> BoundedLog:
        """Return the log of a rank of this node; one that has joined gets it with its first word."""
        if rank not in self._logs:
            path = self._folder / f"rank-{self._first + rank}.log"
            self._logs[rank] = BoundedLog(path, self._max_bytes, self._notify)
        return self._logs[rank]

    def _add(self, rank: int, stream: int) -> None:
        """Make what a rank writes one of its streams to."""
        terminal = self._terminals.of(stream) if self._terminals and rank == 0 else None
        reader = self._pipe() if terminal is None else terminal.reader
        if terminal is not None:
            self.writers.append(os.dup(terminal.writer))
        if reader not in self._ends:  # stdout and stderr may be one terminal
            self._ends[reader] = rank, stream
            self._marked[reader] = MarkedStream()

    def _pipe(self) -> int:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        with suppress(OSError):  # a user may own only so much of it
            fcntl.fcntl(writer, _F_SETPIPE_SZ, _PIPE_BYTES)
        self.writers.append(writer)
        return reader

    def streams(self, rank: int) -> tuple[int, int]:
        """Return the descriptors that a rank writes to; ranks are counted on this node."""
        return self.writers[2 * rank], self.writers[2 * rank + 1]

    def all_streams(self) -> list[list[int]]:
        """Return stdin, stdout and stderr of every rank."""
        return [[0, *self.streams(rank)] for rank in range(self._ranks + self._spare)]

    def release(self) -> None:
        """Close the writing ends here: they belong to the agent now."""
        while self.writers:
            os.close(self.writers.pop())
        if self._terminals is not None:
            self._terminals.release()

    def follow_window(self, pids: Mapping[int, int], ended: Container[int]) -> None:
        """Give rank 0's terminal the size of the launcher's, and tell the process that it has changed."""
        if self._terminals is not None:
            self._terminals.follow(None if 0 in ended else pids.get(0))

    def readers(self) -> Iterator[int]:
        """Return the descriptors to wait for."""
        yield from self._ends

    def read(self, descriptor: int) -> bool:
        """Take what is there; False at its end."""
        return self._take(descriptor) != b""

    def _take(self, descriptor: int) -> bytes | None:
        """Read some bytes; none at the end, None where nothing has arrived yet."""
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal that nobody has open any more
                raise
            return b""
        for part in self._marked[descriptor].split(data):
            self._give(descriptor, part)
        return data

    def _give(self, descriptor: int, part: bytes | Mark) -> None:
        rank, stream = self._ends[descriptor]
        if isinstance(part, Mark):
            if self._watcher is not None:
                self._watcher.mark(self._first + rank, stream, part)
            return
        with suppress(OSError):  # a full disk costs the log, not the training
            self._log(rank).write(part)
        if self._watcher is not None:
            self._watcher.feed(self._first + rank, stream, part)

    def switch_attempt(self, folder: Path) -> None:
        """Switch logs between attempts: what ended ranks left is theirs, what comes later belongs to the next attempt.

        Args:
            folder: of the next attempt.
        """
        self._close_logs()
        self._folder = folder
        self.open_logs()

    def take_all(self) -> None:
        """Take what ranks that have ended left, before anybody looks into their logs for the cause."""
        for descriptor in self._ends:
            while self._take(descriptor):
                pass
            if rest := self._marked[descriptor].rest():
                self._give(descriptor, rest)

    def _close_logs(self) -> None:
        self.take_all()
        for log in self._logs.values():
            log.close()
        self._logs.clear()

    def drain(self) -> None:
        """Take what is left, once nobody writes any more, and close."""
        self._close_logs()
        for descriptor in self._ends:
            os.close(descriptor)
        self._ends.clear()

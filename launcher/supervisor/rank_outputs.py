"""What the ranks print: a file for each, and a view for users."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from ..process import Mark, MarkedStream
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
        watcher: is fed.
        first: of these ranks.
    """

    def __init__(self, folder: Path, ranks: int, watcher: OutputWatcher, first: int = 0) -> None:
        self._watcher = watcher
        self._first = first
        self._files: list[BinaryIO] = []
        self._terminals = None if first else Terminals(OUT, ERR)
        self._ends: dict[int, tuple[int, int]] = {}
        self._marked: dict[int, MarkedStream] = {}
        self.writers: list[int] = []
        """Two for each rank: stdout, stderr."""
        self._open(folder, ranks)
        for rank in range(ranks):
            for stream in (OUT, ERR):
                self._add(rank, stream)

    def _open(self, folder: Path, ranks: int) -> None:
        for rank in range(ranks):
            path = folder / f"rank-{self._first + rank}.log"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            self._files.append(os.fdopen(descriptor, "ab", buffering=0))

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
        """Read some bytes; none at the end, None where nothing has come yet."""
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
            self._watcher.mark(self._first + rank, stream, part)
            return
        with suppress(OSError):  # a full disk costs the log, not the training
            self._files[rank].write(part)
        self._watcher.feed(self._first + rank, stream, part)

    def switch_attempt(self, folder: Path) -> None:
        """Switch logs between attempts: what ended ranks left is theirs, what comes later belongs to the next attempt.

        Args:
            folder: of the next attempt.
        """
        ranks = len(self._files)
        self._take_all()
        self._open(folder, ranks)

    def _take_all(self) -> None:
        for descriptor in self._ends:
            while self._take(descriptor):
                pass
            if rest := self._marked[descriptor].rest():
                self._give(descriptor, rest)
        for file in self._files:
            file.close()
        self._files.clear()

    def drain(self) -> None:
        """Take what is left, once nobody writes any more, and close."""
        self._take_all()
        for descriptor in self._ends:
            os.close(descriptor)
        self._ends.clear()

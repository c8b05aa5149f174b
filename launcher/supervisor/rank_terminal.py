"""The terminal of rank 0, where the launcher has one: what it prints comes byte for byte to the launcher's.

Libraries ask whether they write to a terminal, and how wide it is: for a pipe they leave out colours and moving bars.
Only the output is a terminal's. Rank 0 reads the launcher's own stdin, as every rank does, and no terminal controls it:
a password that it asked for there would wait for keys that nobody can press.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios
import tty
from contextlib import suppress

_SIZE = struct.Struct("HHHH")  # rows, columns, and the same in pixels


class RankTerminal:
    """A pseudo-terminal that stands for one of the launcher's streams.

    Args:
        stream: the launcher's own, a terminal.
    """

    def __init__(self, stream: int) -> None:
        self._stream = stream
        self.reader, self.writer = os.openpty()
        # A "\n" stays one: the launcher's terminal makes "\r\n" of it, and logs are text.
        tty.setraw(self.writer)
        os.set_blocking(self.reader, False)
        self._size = b""
        self.resize()

    def resize(self) -> bool:
        """Take the size that the launcher's terminal has now; tell whether it is another."""
        with suppress(OSError):  # it is gone
            size = fcntl.ioctl(self._stream, termios.TIOCGWINSZ, bytes(_SIZE.size))
            if size != self._size:
                self._size = size
                fcntl.ioctl(self.reader, termios.TIOCSWINSZ, size)
                return True
        return False


class Terminals:
    """The terminals of rank 0, one for each terminal among the launcher's stdout and stderr."""

    def __init__(self, out: int, err: int) -> None:
        self._of: dict[int, RankTerminal] = {}
        with suppress(OSError):  # this machine has no more of them, or this container none: pipes do, too
            if os.isatty(out):
                self._of[out] = RankTerminal(out)
            if os.isatty(err):
                same = out in self._of and os.path.sameopenfile(out, err)
                self._of[err] = self._of[out] if same else RankTerminal(err)

    def of(self, stream: int) -> RankTerminal | None:
        """Return the terminal in place of a stream; None where the launcher's is none."""
        return self._of.get(stream)

    def release(self) -> None:
        """Close the writing ends here."""
        for terminal in set(self._of.values()):
            os.close(terminal.writer)

    def follow(self, pid: int | None) -> None:
        """Follow the size of the launcher's; the kernel tells only processes that a terminal controls of a change."""
        changed = [terminal.resize() for terminal in set(self._of.values())]
        if any(changed) and pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGWINCH)

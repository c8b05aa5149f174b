"""A terminal to start ``launch`` in, of any size, whose user sees what is printed."""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.launch import WATCHDOG


@dataclass
class Terminal:
    """A pseudo-terminal with a command in it."""

    descriptor: int
    process: subprocess.Popen[bytes]
    shown: bytes = b""

    def resize(self, rows: int, columns: int) -> None:
        """Change the window's size."""
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self) -> bool:
        """Take what is shown; False once nobody has the terminal open any more."""
        if select.select([self.descriptor], [], [], 1)[0]:
            try:
                self.shown += os.read(self.descriptor, 65_536)
            except OSError:
                return False
        return True

    def wait_for(self, words: bytes) -> None:
        """Wait until these words are shown."""
        deadline = time.monotonic() + WATCHDOG
        while words not in self.shown:
            assert self.read(), self.shown
            assert time.monotonic() < deadline, self.shown

    def end(self) -> int:
        """The exit status, once all is shown."""
        while self.read():
            pass
        return self.process.wait(WATCHDOG)


@contextmanager
def terminal(
    command: Sequence[str | Path], rows: int, columns: int, env: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    """Start a command in a terminal of this size."""
    ours, theirs = os.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", **(env or {})}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(ours)

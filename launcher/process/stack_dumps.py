"""Python stacks of ranks that hang: each rank writes its own into ``stack-R.txt`` when a signal asks it to.

The handler is faulthandler's, in C: it works while the main thread waits inside a collective or in other native
code. Only a rank that has the handler still is sent the signal, which would kill any other process.
"""

from __future__ import annotations

import errno
import faulthandler
import fcntl
import os
import re
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ...data.common import Process, StackFrame

STACK_SIGNAL = signal.SIGRTMAX - 3
"""One that neither Python, torch, CUDA nor a C library's own machinery uses: they take them from the lower end."""
_LOWEST_PRIVATE_DESCRIPTOR = 100
"""Numbers from here on are the launcher's: the script's first file is number 3, as in a fresh process."""
_SETTLED_SECONDS = 0.25  # without another line: there is no last word in a dump
_PATIENCE_SECONDS = 2.0
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x[0-9a-f]+.*:$")
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in (.*)$')


def stack_file(attempt: Path, rank: int) -> Path:
    """Return the file that a rank's stacks are written to."""
    return attempt / f"stack-{rank}.txt"


def install_stack_handler(attempt: Path, rank: int) -> None:
    """Have this rank write the stacks of all its threads whenever it is asked for them."""
    with suppress(OSError):  # a disk that is full must not keep a rank from starting
        low = os.open(stack_file(attempt, rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        high = duplicate_high(low)
        os.close(low)
        faulthandler.register(STACK_SIGNAL, file=high, all_threads=True)


def duplicate_high(descriptor: int, lowest: int = _LOWEST_PRIVATE_DESCRIPTOR) -> int:
    """Duplicate an open file under a number from ``lowest`` on, or as high as the limit of open files allows."""
    while True:
        try:
            return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EMFILE) or not lowest:
                raise
            lowest = lowest // 2


def remove_dumps(attempt: Path) -> None:
    """Remove the files of all ranks: what was suspected was no hang."""
    for path in attempt.glob("stack-*.txt"):
        with suppress(OSError):
            path.unlink()


def remove_unused_dumps(attempt: Path) -> None:
    """Remove the files of ranks that were never asked."""
    for path in attempt.glob("stack-*.txt"):
        with suppress(OSError):
            if not path.stat().st_size:
                path.unlink()


class StackDump:
    """One rank's answer, as far as it has arrived.

    Args:
        process: of the rank.
        path: its file.
        title: a line that says when and why it was asked.
        description: of a process that cannot answer, which is not asked then.
    """

    def __init__(self, process: Process, path: Path, title: str, description: Sequence[str] = ()) -> None:
        self._path = path
        self._began = self._grew = time.monotonic()
        able = not description
        about = [] if able else ["it cannot say where it is:", *description]
        _append(path, [f"# {time.strftime('%Y-%m-%d %H:%M:%S')} {title}", *about])
        self._start = self._size = self._length()
        self._asked = able
        if able:
            process.send_signal(STACK_SIGNAL)

    def _length(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def is_ready(self) -> bool:
        """Tell whether the answer is there, or will not come."""
        if not self._asked:
            return True
        now, size = time.monotonic(), self._length()
        if size != self._size:
            self._size, self._grew = size, now
        settled = size > self._start and now - self._grew > _SETTLED_SECONDS
        return settled or now - self._began > _PATIENCE_SECONDS

    def threads(self) -> list[list[StackFrame]]:
        """Return each thread's frames, the innermost first, the main thread last; None where it did not answer."""
        with suppress(OSError), self._path.open("rb") as file:
            file.seek(self._start)
            return parse(file.read().decode(errors="replace").splitlines())
        return []


def parse(lines: Sequence[str]) -> list[list[StackFrame]]:
    """Parse one dump of faulthandler's into its threads."""
    threads: list[list[StackFrame]] = []
    for line in lines:
        if _THREAD.match(line):
            threads.append([])
        elif threads and (found := _FRAME.match(line)):
            threads[-1].append((found[1], int(found[2]), found[3]))
    return threads


def _append(path: Path, lines: Sequence[str]) -> None:
    with suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))

"""A command of Lockstep's as a process of a script or a notebook: its words appear there, and Ctrl-C reaches it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from threading import Thread
from typing import IO, TextIO

from ...data.common import LockstepError, UsageError, error_of_status
from ..console import last_card, read_card

_MAIN = "from lockstep.launcher.cli.start import main; main()"


class Command:
    """A started ``launch``.

    Args:
        arguments: after ``launch``.
        environment: of the process.
        keep_output: what it prints on stdout is kept, not shown: it is a document.
        hidden: lines with these words are not shown.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        keep_output: bool = False,
        hidden: str = "\0",
    ) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-c", _MAIN, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # The card that it ends with is read: none of its lines is to be folded.
            env={name: value for name, value in environment.items() if name != "COLUMNS"},
            start_new_session=True,  # Ctrl-C is passed on, wherever it came from
        )
        self.output: list[str] = []
        self._hidden = hidden
        self._errors: list[str] = []
        self._readers = [
            Thread(target=self._read, args=(self._child.stdout, self.output, not keep_output, sys.stdout)),
            Thread(target=self._read, args=(self._child.stderr, self._errors, True, sys.stderr)),
        ]
        for reader in self._readers:
            reader.start()

    def wait(self) -> int:
        """Wait for its end; return the exit status. An interrupt is passed on, and it may end in its own time."""
        while True:
            try:
                status = self._child.wait()
                for reader in self._readers:
                    reader.join()
            except KeyboardInterrupt:
                self._child.send_signal(2)
            else:
                return status

    def error(self, status: int) -> LockstepError:
        """Return the error that its card tells."""
        message, hint = read_card(last_card(self._errors))
        kind = error_of_status(status) if status > 0 else UsageError
        return kind(message or f"launch ended with status {status}", hint)

    def _read(self, pipe: IO[str] | None, kept: list[str], shown: bool, to: TextIO | None) -> None:  # noqa: FBT001 - of a thread
        if pipe is None:
            return
        with pipe:
            for line in pipe:
                kept.append(line.rstrip("\n"))
                if shown and to is not None and self._hidden not in line:
                    to.write(line)
                    to.flush()

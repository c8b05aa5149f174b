"""The outermost frame of every command: an error becomes a failure card and an exit status."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...data.common import LockstepError, UsageError, end_at_signals, os_error_for_users
from ..process import set_private_umask

_STDERR = 2
_COLLECT_AFTER = 100_000
"""New objects between two collections: the imports of a command make about this many, and hardly any garbage."""


def run_with_failure_card(command: Callable[[], object]) -> None:
    """Run ``command`` and end the process with its exit status."""
    gc.set_threshold(_COLLECT_AFTER)
    atexit.register(gc.freeze)  # what is left then needs no collection any more
    set_private_umask()
    _hold_standard_streams()
    end_at_signals()
    try:
        command()
    except OSError as error:
        from .failure_card import print_failure_card

        shown = _for_users(error)
        print_failure_card(shown)
        sys.exit(shown.exit_status)
    except LockstepError as error:
        from .failure_card import print_failure_card

        print_failure_card(error)
        sys.exit(error.exit_status)


def _for_users(error: OSError) -> LockstepError:
    """Turn an error of the operating system into one for users."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return UsageError("this folder has been deleted", "change to one that is there")
    return os_error_for_users(error)


def _hold_standard_streams() -> None:
    """Open streams that are closed: else a socket would become descriptor 0, and a child's stdin replace it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - its only form; as those are that were open
    os.close(descriptor)


@contextmanager
def json_errors(*, json: bool) -> Iterator[None]:
    """Print an error as a JSON document, too, if ``--json`` was given, in the form of a failed run's outcome."""
    try:
        yield
    except LockstepError as error:
        if json:
            from .console import print_json

            failed = {"status": "failed", "exit_code": error.exit_status, "error": error.to_json()}
            print_json({"schema_version": 1, **failed})
        raise

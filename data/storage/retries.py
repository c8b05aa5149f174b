"""Trying again: a server that restarts or refuses for a moment costs time, and says so; it does not end a run."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from ..common import LockstepError, MachineError

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_SAID_AFTER = 2.0
"""Seconds of waiting that are worth a line."""
_PERMANENT = (
    FileNotFoundError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    ImportError,
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    AssertionError,
    MemoryError,
)
"""Also what is an error of the code or of this process, and says nothing of a server."""
_PERMANENT_NUMBERS = (errno.EINVAL, errno.ENOENT, errno.EACCES, errno.EPERM)
"""Of an OSError; EINVAL is a range behind the end of the file."""
_BUSY_STATUSES = (408, 425, 429)
_FORBIDDEN = (401, 403)
_CLIENT_ERRORS = range(400, 500)
_WRONG_HERE = ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "ProfileNotFound")
"""Names of botocore's errors, which is not imported for them."""


def read_patiently(read: Callable[[], T], name: str, seconds: float) -> T:
    """Call ``read`` until it succeeds.

    Args:
        read: reads from a server.
        name: of what it reads, for messages.
        seconds: for which failures that may pass are tried again.

    Raises:
        MachineError: it failed for so long, or this machine has no right to it.
        Exception: as ``read`` raised it, where trying again is no use, such as a file that is not there.
    """
    begun, pause, is_said = time.monotonic(), _FIRST_PAUSE, False
    while True:
        try:
            return read()
        except LockstepError:
            raise
        except Exception as raised:
            error = _cause_of(raised)
            if _lacks_rights(error):
                raise MachineError(f"{name}: {_words(error)}", _RIGHTS_HINT) from error
            if not _may_pass(error):
                raise
            waited = time.monotonic() - begun
            if waited + pause > seconds:
                what = f"{name} could not be read for {waited:.0f} s: {_words(error)}"
                raise MachineError(what, "see that the server answers, then resume the run") from error
            if waited >= _SAID_AFTER and not is_said:
                is_said = True
                sys.stderr.write(f"note: waiting for {name}, for at most {seconds:.0f} s: {_words(error)}\n")
                sys.stderr.flush()
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


_RIGHTS_HINT = (
    "give the run's environment the server's credentials (for s3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or"
    " AWS_PROFILE), or data.args.storage={anon: true} for a public bucket"
)


def _may_pass(error: Exception) -> bool:
    """Tell whether another try may succeed: whatever is said neither of the file nor of the request."""
    if isinstance(error, _PERMANENT):
        return False
    if isinstance(error, OSError) and error.errno in _PERMANENT_NUMBERS:
        return False
    status = getattr(error, "status", None)
    return not (status in _CLIENT_ERRORS and status not in _BUSY_STATUSES)


def _lacks_rights(error: Exception) -> bool:
    status = getattr(error, "status", None)
    return type(error).__name__ in _WRONG_HERE or isinstance(error, PermissionError) or status in _FORBIDDEN


def _cause_of(error: Exception) -> Exception:
    """Return why a file was not found, where that is a connection: fsspec says the same of a silent server."""
    cause = error.__cause__
    is_http = isinstance(cause, Exception) and type(cause).__module__.startswith("aiohttp")
    return (
        cause if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) and is_http else error
    )


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__

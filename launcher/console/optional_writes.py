"""Notes that hold up nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .console import say


@contextmanager
def best_effort() -> Iterator[None]:
    """For a note of what has to happen whether it can be noted or not: a full disk costs a warning."""
    try:
        yield
    except OSError as error:
        say(
            [
                f"warning: {error.filename or 'the run folder'}: {error.strerror}; what happens here is not noted"
            ]
        )

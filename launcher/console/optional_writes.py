"""Writes that may fail without stopping anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .console import print_messages


@contextmanager
def best_effort() -> Iterator[None]:
    """Turn a failed write into a warning, for records of actions that must happen even on a full disk."""
    try:
        yield
    except OSError as error:
        print_messages(
            [
                f"warning: {error.filename or 'the run folder'}: {error.strerror}; what happens here is not noted"
            ]
        )

"""A user's functions and objects as bytes for this launch's own ranks, and back."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

ERRORS = (TypeError, AttributeError, RecursionError, pickle.PicklingError)
"""Errors of what cannot be sent."""


def pickled(value: Any) -> bytes:
    """Pickle a value; functions and classes of ``__main__`` go with their code.

    Raises:
        ERRORS: it cannot be sent.
    """
    import cloudpickle

    content: bytes = cloudpickle.dumps(value)
    return content


def unpickled(content: bytes) -> Any:
    """Make the value again that ``pickled`` was given, in this process or another of the same launch."""
    return pickle.loads(content)  # noqa: S301 - written by this launch, in a folder that this user alone may read


def read_pickled(path: Path) -> Any:
    """Read what a process of the same launch has written."""
    return unpickled(path.read_bytes())

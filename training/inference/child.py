"""How a short-lived child process answers: with what it was asked for, or with the error of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ...data.common import DamagedError, LockstepError, UsageError, answer_parent, os_error_for_users


def answer_with(task: Callable[[], dict[str, Any]]) -> None:
    """Answer the parent with what a task returns, or with its error."""
    try:
        answer_parent(task())
    except LockstepError as error:
        answer_parent({"error": error.to_json()})
    except SafetensorError as error:
        damaged = DamagedError(f"a file of tensors cannot be read: {error}", "use another checkpoint")
        answer_parent({"error": damaged.to_json()})
    except OSError as error:
        answer_parent({"error": os_error_for_users(error).to_json()})


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Say of what fails inside that it was in writing a file.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{out} cannot be written: {error}", "name a file in a folder of yours") from error

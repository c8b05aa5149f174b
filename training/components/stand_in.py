"""A pass of samples that count nothing: a rank without samples takes part in what the others compute together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

learned_later: ContextVar[list[Callable[[], Any]] | None] = ContextVar("learned_later", default=None)
"""Of such a pass, what this rank learns from the others when it is over; else None."""


@contextmanager
def standing_in() -> Iterator[None]:
    """Let the samples that this rank passes through a model inside count nothing; others' statistics it keeps."""
    learned: list[Callable[[], Any]] = []
    token = learned_later.set(learned)
    try:
        yield
    finally:
        learned_later.reset(token)
    with torch.no_grad():
        for update in learned:
            update()

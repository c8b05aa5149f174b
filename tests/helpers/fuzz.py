"""Fuzz tests: so many generated documents, each checked in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

SAMPLE = 150  # examples of the default run
ALL = 4000


def fuzz(
    documents: SearchStrategy[bytes], check: Callable[[Path, bytes], None], file: Path, examples: int
) -> None:
    """Call ``check`` with ``file`` and the content of each example; the sample is the same in every run."""

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), derandomize=examples < ALL)
    @given(documents)
    def one(content: bytes) -> None:
        check(file, content)

    one()

"""The ``log:`` section, with the steps of a run that are profiled as users write them. No torch here."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ...data.config import ConfigSection, MeasuredIn
from .log_size import DEFAULT_LOG_MB

_WRITTEN = re.compile(r"(?:(\d+)\s*\.\.\s*)?(\d+)")
WARM_UP = 5
"""Steps of an attempt that are not an example of the others: caches fill, shapes are compiled."""


def profiled_steps(text: str, first: int) -> tuple[int, int]:
    """Return the steps [begin, end) of a run, counted from 0.

    Args:
        text: ``10..20``, both of them included and counted from 1, or how many steps.
        first: of this attempt.
    """
    begin, last = _parts(text)
    return (first + WARM_UP, first + WARM_UP + last) if begin is None else (begin - 1, last)


def _parts(text: str) -> tuple[int | None, int]:
    found = _WRITTEN.fullmatch(text.strip())
    begin = int(found[1]) if found and found[1] else None
    last = int(found[2]) if found else 0
    if last < 1 or (begin is not None and not 1 <= begin <= last):
        raise ValueError("name the steps, as 10..20, or how many of them")
    return begin, last


def _checked(value: Any) -> Any:
    if value is None:
        return None
    _parts(str(value))
    return str(value).strip()


ProfiledSteps = Annotated[str | None, BeforeValidator(_checked, json_schema_input_type=str | int | None)]
"""The value of ``log.profile``."""


class LogConfig(ConfigSection):
    """The ``log:`` section."""

    every_steps: Annotated[int, MeasuredIn("steps")] = Field(default=50, gt=0)
    """Optimizer steps between two rows of the training loss in the record."""
    max_mb: Annotated[int, MeasuredIn("MB")] = Field(default=DEFAULT_LOG_MB, gt=0)
    """Megabytes of what a rank prints in one attempt; a larger log keeps its first and its last part."""
    profile: Annotated[ProfiledSteps, MeasuredIn("steps")] = None
    """Steps that are profiled: ``10..20``, or how many after the first ones; ``--profile`` sets it."""

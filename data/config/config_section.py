"""What all sections of a config have in common."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class MeasuredIn:
    """The unit of a setting's number, as ``Annotated[int, MeasuredIn("steps")]``; the reference shows it."""

    unit: str
    """A plural: ``seconds``."""


class ConfigSection(BaseModel):
    """A frozen part of a config; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

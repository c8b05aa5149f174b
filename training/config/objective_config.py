"""What is trained: the ``loss:`` or the ``step:`` section. No torch here: the command line reads this file."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_serializer

from ...data.config import ConfigSection


class LossConfig(ConfigSection):
    """The ``loss:`` section."""

    use: str = Field(default="cross_entropy", min_length=1)
    """A loss of ``losses/losses.py`` or a callable ``(output, target) -> per-sample tensor or (sum, weight)``."""
    args: dict[str, Any] = Field(default_factory=dict)


class StepConfig(ConfigSection):
    """The ``step:`` section; written as its name alone where it has no arguments."""

    use: str = Field(min_length=1)
    """A callable ``(model, batch) -> loss`` in the place of ``loss:``; per-sample tensor, (sum, weight), or a dict of
    such terms of which ``loss`` is trained."""
    args: dict[str, Any] = Field(default_factory=dict)

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        return {"use": self.use, "args": self.args} if self.args else self.use

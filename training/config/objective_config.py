"""What is trained: the ``loss:`` or the ``step:`` section. No torch here: the command line reads this file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, model_serializer

from ...data.config import ConfigSection, MeasuredIn

ONE_STEP, IN_TURN = "one step", "steps in turn"
"""Names of the two ways to write ``step:``, which pydantic puts into the path of a finding."""


class LossConfig(ConfigSection):
    """The ``loss:`` section."""

    use: str = Field(default="cross_entropy", min_length=1)
    """A built-in loss, a callable ``(output, target) -> per-sample tensor or (sum, weight)``, or ``auto``:
    cross_entropy for a class, mse for a number, with metrics to it where none are named."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the loss: those listed below for a built-in one, those of the callable for your own."""


class StepConfig(ConfigSection):
    """The ``step:`` section; written as its name alone where it has no arguments."""

    use: str = Field(min_length=1)
    """A callable ``(model, batch) -> loss`` in the place of ``loss:``; per-sample tensor, (sum, weight), or a dict of
    such terms of which ``loss`` is trained."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the step, by name."""
    optimizer: str | None = Field(default=None, min_length=1)
    """The one of ``optimizers:`` that takes this step; unset: all do."""
    every: Annotated[int, MeasuredIn("steps")] = Field(default=1, gt=0)
    """Taken once in this many steps of the run: 5 in the fifth, the tenth, ..."""

    @property
    def name(self) -> str:
        """Return what its loss is called in the record, where there are several steps."""
        return self.optimizer or self.use.rpartition(":")[2]

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        every = self.every if self.every > 1 else None
        said = {"args": self.args, "optimizer": self.optimizer, "every": every}
        said = {key: value for key, value in said.items() if value}
        return {"use": self.use, **said} if said else self.use


def turn_problem(steps: Sequence[StepConfig], optimizers: Sequence[str]) -> str | None:
    """Say what is wrong with the steps' turns; None where nothing is."""
    asked = [step.optimizer for step in steps if step.optimizer is not None]
    if unknown := [name for name in asked if name not in optimizers]:
        return f"step: there is no {unknown[0]} in optimizers"
    idle = [name for name in optimizers if asked and len(asked) == len(steps) and name not in asked]
    if idle:
        return f"step: none is for the optimizer {idle[0]}, which would do nothing"
    if steps and steps[0].every > 1:
        return (
            "step: the first is taken in every step of the run, for train/loss is its; put it first that is"
        )
    names = [step.name for step in steps]
    if doubled := {name for name in names if names.count(name) > 1}:
        return f"step: two are called {min(doubled)}; give each an optimizer or a function of its own"
    return None

"""A length of training as a config gives it: ``500 steps``, ``2 epochs``, ``5 %``, ``10 minutes``. No torch here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

Unit = Literal["steps", "epochs", "%", "minutes"]

_WORDS: dict[str, Unit] = {
    "": "steps",
    "step": "steps",
    "steps": "steps",
    "epoch": "epochs",
    "epochs": "epochs",
    "%": "%",
    "min": "minutes",
    "minute": "minutes",
    "minutes": "minutes",
}
_WRITTEN = re.compile(r"\s*([0-9][0-9_]*(?:\.[0-9]+)?|\.[0-9]+)\s*(%|[A-Za-z]*)\s*")
_EXAMPLES: dict[Unit, str] = {
    "steps": "500 steps",
    "epochs": "2 epochs",
    "%": "5 %",
    "minutes": "10 minutes",
}
ALL_UNITS: tuple[Unit, ...] = tuple(_EXAMPLES)


@dataclass(frozen=True)
class Duration:
    """A length of training."""

    amount: Fraction
    """As it is written: 0.1 is a tenth, and not the nearest binary number."""
    unit: Unit
    written: str | int
    """The value in the config."""

    def exact_steps(self, steps_per_epoch: int, total: int) -> Fraction:
        """Compute its optimizer steps, with a fraction of one.

        Args:
            steps_per_epoch: of the run.
            total: steps of the whole run, which per cents are of.

        Raises:
            ValueError: minutes are not a number of steps.
        """
        if self.unit == "minutes":
            raise ValueError(f"{self.written} is not a number of steps")
        one = {"steps": Fraction(1), "epochs": Fraction(steps_per_epoch), "%": Fraction(total, 100)}
        return self.amount * one[self.unit]

    def in_steps(self, steps_per_epoch: int, total: int) -> int:
        """Compute its optimizer steps; a part of a step counts as a whole one, so that 1 % is never nothing."""
        return math.ceil(self.exact_steps(steps_per_epoch, total))

    def __str__(self) -> str:
        return f"{self.written} steps" if isinstance(self.written, int) else self.written


def parse_duration(value: Any, units: tuple[Unit, ...] = ALL_UNITS) -> Duration:
    """Read a duration; a bare number is one of steps.

    Args:
        value: of the config.
        units: that make sense here.

    Raises:
        ValueError: it is none, or has another unit.
    """
    if isinstance(value, Duration):
        value = value.written
    found = _WRITTEN.fullmatch(str(value)) if isinstance(value, str | int | float) else None
    unit = _WORDS.get(found[2].lower()) if found and not isinstance(value, bool) else None
    if found is None or unit not in units:
        raise ValueError("must be " + " or ".join(_EXAMPLES[known] for known in units))
    amount = Fraction(found[1].replace("_", ""))
    if amount <= 0:
        raise ValueError("must be greater than 0")
    if unit == "steps" and amount.denominator != 1:
        raise ValueError("must be a whole number of steps" + ("; 10 % is a share" if "%" in units else ""))
    if unit == "%" and amount > 100:  # noqa: PLR2004 - the whole
        raise ValueError("must be at most 100 %")
    return Duration(amount, unit, value if isinstance(value, str) else int(value))


@dataclass(frozen=True)
class Units:
    """The units that a key allows, as ``Annotated[Duration, Units(("steps", "epochs"))]``."""

    units: tuple[Unit, ...]

    @property
    def examples(self) -> tuple[str, ...]:
        """Show a length in each of the units."""
        return tuple(_EXAMPLES[unit] for unit in self.units)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check with ``parse_duration``, and write the value as it was written."""
        del source, handler
        return core_schema.no_info_plain_validator_function(
            lambda value: parse_duration(value, self.units),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.written),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the value to editors: a whole number of steps, or a text with its unit."""
        del schema, handler
        words = [word for word, unit in _WORDS.items() if unit in self.units]
        any_case = ["".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in word) for word in words]
        pattern = _WRITTEN.pattern.replace("(%|[A-Za-z]*)", f"(?:{'|'.join(any_case)})")
        text = {"type": "string", "pattern": f"^{pattern}$", "examples": list(self.examples)}
        return {"anyOf": [{"type": "integer", "exclusiveMinimum": 0}, text]}


Length = Annotated[Duration, Units(("steps", "epochs", "%"))]
"""A part of a run: ``500 steps``, ``2 epochs`` or ``5 %`` of it."""
Interval = Annotated[Duration, Units(("steps", "epochs", "minutes"))]
"""What recurs: ``500 steps``, ``2 epochs`` or ``10 minutes``."""


@dataclass(frozen=True)
class RunLength:
    """The length of a run."""

    steps_per_epoch: int
    steps: int
    """Optimizer steps of the whole run."""

    def of(self, duration: Duration) -> int:
        """Return the steps of a part of this run."""
        return duration.in_steps(self.steps_per_epoch, self.steps)

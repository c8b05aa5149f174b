"""The learning rate schedules that a config can name. No torch: the command line reads this file.

A new one is a line in ``SCHEDULES``, its own keys, here, and its function in ``optim/schedules.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

from ...data.config import ConfigSection, MeasuredIn
from .duration import Length, RunLength


@dataclass(frozen=True)
class Schedule:
    """The keys of a schedule, besides ``warmup`` and ``warmup_factor``, which all have."""

    meaning: str
    """What the learning rate does, in one sentence; the reference shows it."""
    keys: tuple[str, ...] = ()
    """Fields of ``ScheduleConfig``."""
    required: tuple[str, ...] = ()
    follows_length: bool = False
    """Whether its rates change where the run is extended."""


SCHEDULES = {
    "constant": Schedule("It stays as it is."),
    "linear": Schedule(
        "It falls in a straight line to `min_lr` at the end of the run.", ("min_lr",), follows_length=True
    ),
    "cosine": Schedule(
        "It falls along half a cosine to `min_lr` at the end of the run.", ("min_lr",), follows_length=True
    ),
    "polynomial": Schedule(
        "It falls along a polynomial to `min_lr` at the end of the run.",
        ("power", "min_lr"),
        follows_length=True,
    ),
    "step": Schedule(
        "It is multiplied by `factor` after each `every`.", ("every", "factor", "min_lr"), required=("every",)
    ),
    "multi_step": Schedule(
        "It is multiplied by `factor` after each length in `at`.",
        ("at", "factor", "min_lr"),
        required=("at",),
    ),
    "exponential": Schedule(
        "It is multiplied by `factor` after each `every`, or each step.",
        ("factor", "every", "min_lr"),
        required=("factor",),
    ),
    "inverse_sqrt": Schedule("It falls with the square root of the steps so far.", ("timescale", "min_lr")),
    "one_cycle": Schedule(
        "It rises to `lr`, and falls far below where it began.",
        ("rise", "anneal", "div_factor", "final_div_factor", "three_phase"),
        follows_length=True,
    ),
    "plateau": Schedule(
        "It is multiplied by `factor` when a metric has stopped improving.",
        ("monitor", "mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr"),
    ),
}
_OWN = Schedule("", ("args",), follows_length=True)
"""A user's function."""
_FIRST_VERSION = ("use", "min_lr")
OF_A_RUN = "of a run"
"""Context of a config that was checked when its run was started: 0.1 let every schedule have a ``min_lr``."""


def _check_name(name: str) -> str:
    source, _, attribute = name.rpartition(":")
    if name not in SCHEDULES and not (source and attribute.isidentifier()):
        choices = (*SCHEDULES, "package.module:callable", "./file.py:callable")
        raise PydanticKnownError(
            "literal_error", {"expected": ", ".join(f"'{choice}'" for choice in choices)}
        )
    return name


def unsupported_schedule_keys(use: str) -> tuple[str, ...]:
    """List the keys that other schedules have and this one does not; none for an unknown name."""
    schedule = SCHEDULES.get(use, _OWN if ":" in use else None)
    every = dict.fromkeys(key for other in (*SCHEDULES.values(), _OWN) for key in other.keys)
    return tuple(key for key in every if schedule and key not in schedule.keys)


class ScheduleConfig(ConfigSection):
    """The ``schedule:`` section: the learning rate as a function of the step.

    A key that only some schedules have is None where it is unset. What comes after a warm-up counts from its end.
    """

    model_config = ConfigDict(validate_default=True)

    use: Annotated[str, AfterValidator(_check_name)] = "constant"
    """One of those listed below, or a function ``(step, total) -> multiple of the rate``: ``./file.py:name``."""
    warmup: Length | None = None
    """The rate rises linearly over this many steps; in front of any schedule."""
    warmup_factor: float | None = Field(default=None, ge=0, lt=1)
    """The multiple of the rate that the warm-up begins at; unset is 0."""
    min_lr: float = Field(default=0.0, ge=0)
    """The rate that the schedule ends at, or never falls below."""
    every: Length | None = None
    """After each of these the rate is multiplied by ``factor``; unset is one step."""
    at: tuple[Length, ...] | None = Field(default=None, min_length=1)
    """After each of these, counted from the run's start, the rate is multiplied by ``factor``."""
    factor: float | None = Field(default=None, gt=0)
    """What the learning rate is multiplied by; unset is 0.1."""
    power: float | None = Field(default=None, gt=0)
    """The exponent of the polynomial; unset is 1, a straight line."""
    timescale: Length | None = None
    """The rate is divided by the square root of 1 + steps / timescale; unset is the warm-up, else 10,000 steps."""
    rise: Length | None = None
    """How long the cycle rises; unset is 30 %, of the cycle."""
    anneal: Literal["cosine", "linear"] | None = None
    """How the cycle's rate goes from one value to the next; unset is cosine."""
    div_factor: float | None = Field(default=None, gt=0)
    """The cycle begins at the rate divided by this; unset is 25."""
    final_div_factor: float | None = Field(default=None, gt=0)
    """The cycle ends at what it began with divided by this; unset is 10,000."""
    three_phase: bool | None = None
    """Let the cycle fall as long as it rises, to where it began, before it falls to its end."""
    monitor: str | None = Field(default=None, min_length=1)
    """A metric as the record names it; the rate is lowered when it stops improving. Unset is val/loss."""
    mode: Literal["auto", "min", "max"] | None = None
    """Which way of the metric is better: ``auto``, ``min`` or ``max``; unset is auto."""
    patience: Annotated[int, MeasuredIn("evaluations")] | None = Field(default=None, ge=0)
    """Evaluations without improvement that are tolerated; unset is 10."""
    threshold: float | None = Field(default=None, ge=0)
    """A smaller improvement does not count; unset is 1e-4."""
    threshold_mode: Literal["rel", "abs"] | None = None
    """Whether ``threshold`` is a share of the best value; unset is rel."""
    cooldown: Annotated[int, MeasuredIn("evaluations")] | None = Field(default=None, ge=0)
    """Evaluations after a lowering that do not count; unset is 0."""
    args: dict[str, Any] | None = None
    """Arguments of a function of your own, besides step and total."""

    # Validators of fields, not of the whole, as in optimizers.py.
    @field_validator("*")
    @classmethod
    def _schedule_has_key(cls, value: Any, info: ValidationInfo) -> Any:
        use, key = str(info.data.get("use")), str(info.field_name)
        said = value != cls.model_fields[key].default
        if said and key in unsupported_schedule_keys(use) and info.context is not OF_A_RUN:
            raise ValueError(f"{use} has no {key}")
        if value is None and use in SCHEDULES and key in SCHEDULES[use].required:
            raise PydanticKnownError("missing")
        return value

    @field_validator("warmup_factor")
    @classmethod
    def _has_warmup(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("warmup", value) is None:
            raise ValueError("there is no warmup that could begin at it")
        return value

    @field_validator("factor")
    @classmethod
    def _lowers(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and value >= 1 and info.data.get("use") == "plateau":
            raise ValueError("plateau lowers the rate: must be less than 1")
        return value

    @property
    def follows_length(self) -> bool:
        """Whether the rates of steps that are done would be others in a longer run."""
        parts = (self.warmup, self.every, self.timescale, *(self.at or ()))
        shares = any(part is not None and part.unit == "%" for part in parts)
        return shares or SCHEDULES.get(self.use, _OWN).follows_length

    def warmup_steps(self, length: RunLength) -> int:
        """Return how many steps the warm-up has."""
        return 0 if self.warmup is None else length.of(self.warmup)


LATER_SCHEDULE_KEYS = tuple(
    f"schedule.{key}" for key in ScheduleConfig.model_fields if key not in _FIRST_VERSION
)
"""Keys that checkpoints of the first version do not hold."""

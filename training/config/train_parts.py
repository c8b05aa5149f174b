"""Parts of the ``train:`` section, and the ``hooks:`` section. No torch here: the command line reads this file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, Field, model_serializer, model_validator
from pydantic_core import PydanticKnownError

from ...data.config import ConfigSection, MeasuredIn


def _refuse_fp8(value: Any) -> Any:
    """Refuse fp8 with its reasons.

    Raises:
        ValueError: it is asked for.
    """
    if isinstance(value, str) and re.fullmatch("(te|ao|msamp)?_?(fp|float)_?8.*", value.lower()):
        raise ValueError(
            "fp8 is not built in: its scales are usually those of a process's own samples, so that the numbers would"
            " depend on how many processes there are, and it has not been tried on a GPU that computes in it"
            " (compute capability 8.9 or newer). Use bf16; or have your model's function convert its linear layers"
            " itself, as torchao.float8.convert_to_float8_training does, and train that in bf16"
        )
    return value


Precision = Annotated[Literal["auto", "fp32", "bf16", "fp16", "fp64"], BeforeValidator(_refuse_fp8)]
CompileMode = Literal["default", "dynamic", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
HookPoint = Literal["on_start", "on_step", "on_evaluate", "on_checkpoint", "on_end"]
HOOK_POINTS: tuple[HookPoint, ...] = get_args(HookPoint)


class EmaConfig(ConfigSection):
    """``train.ema``: an exponential moving average of the parameters, which evaluation then uses."""

    decay: float = Field(default=0.999, gt=0, lt=1)
    """The share of the average that an update keeps; less in the first updates, to forget the random start."""
    every_steps: Annotated[int, MeasuredIn("steps")] = Field(default=1, gt=0)
    """Optimizer steps between two updates of the average."""


class ElasticConfig(ConfigSection):
    """``train.elastic``: how many processes a run may have, while it trains."""

    min: Annotated[int, MeasuredIn("processes")] = Field(default=1, gt=0)
    """The fewest that ``launch scale`` may leave."""
    max: Annotated[int, MeasuredIn("processes")] = Field(gt=0)
    """The most that ``launch scale`` may make it; no more than logical ranks."""
    deaths: Annotated[int, MeasuredIn("processes")] = Field(default=3, ge=0)
    """How many may die in one attempt while the others go on; with the next one, all end."""

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"train.elastic: min={self.min} is more than max={self.max}")
        return self

    def problem(self, size: int) -> str:
        """Say why a number of processes is not allowed; empty where it is."""
        allowed = self.min <= size <= self.max
        return "" if allowed else f"train.elastic: {size} processes are not within {self.min} to {self.max}"


class HooksConfig(BaseModel, frozen=True, extra="forbid"):
    """Functions ``f(state)`` of your own, by the point where they are called, or all of one file."""

    file: str | None = Field(default=None, min_length=1)
    """A file or a module; those of its functions that have a point's name are called there."""
    on_start: str | None = Field(default=None, min_length=1)
    """A function to call before the first step of each attempt."""
    on_step: str | None = Field(default=None, min_length=1)
    """A function to call after each optimizer step."""
    on_evaluate: str | None = Field(default=None, min_length=1)
    """A function to call after each evaluation, with the weights that were evaluated."""
    on_checkpoint: str | None = Field(default=None, min_length=1)
    """A function to call before each checkpoint, which holds what it returns."""
    on_end: str | None = Field(default=None, min_length=1)
    """A function to call after the last checkpoint of a run that is over, not of one that was stopped."""

    @property
    def named(self) -> dict[str, str]:
        """Return what was set, by its key."""
        points = {key: getattr(self, key) for key in ("file", *HOOK_POINTS)}
        return {key: value for key, value in points.items() if value is not None}

    @model_serializer
    def _as_written(self) -> str | dict[str, str]:
        named = self.named
        return named["file"] if named.keys() == {"file"} else named


def _from_file(value: Any) -> Any:
    if isinstance(value, str):
        return {"file": value}
    if not isinstance(value, dict | HooksConfig):
        raise PydanticKnownError("string_type")
    return value


Hooks = Annotated[HooksConfig, BeforeValidator(_from_file, json_schema_input_type=str | HooksConfig)]
"""The value of ``hooks:``."""


VERIFY_STEPS = 100
"""Between two comparisons of ranks where ``train.verify_every`` is ``auto``."""


def _verify_steps(value: Any) -> Any:
    """Read ``auto`` as its number of steps and ``off``, which YAML makes False of, as None."""
    return (
        {"auto": VERIFY_STEPS, "off": None, False: None}.get(value, value)
        if isinstance(value, str | bool)
        else value
    )


VerifyEvery = Annotated[
    Annotated[int, Field(gt=0, strict=True), MeasuredIn("steps")] | None,
    BeforeValidator(_verify_steps, json_schema_input_type=int | str | None),
]
"""The value of ``train.verify_every``."""


def refuse_cut(config: Any) -> None:
    """Refuse logical ranks where batches cannot be cut into them, and an elastic run that could leave a trace.

    Args:
        config: of the run.

    Raises:
        ValueError: they cannot be, or it could.
    """
    logical, elastic = config.train.logical_ranks, config.train.elastic
    problems = {
        f"{logical} parts of a batch of {config.data.batch_size}: make data.batch_size at least as large": (
            logical or 0
        )
        > config.data.batch_size,
        "whole parameters are needed: leave train.strategy out": config.train.strategy != "ddp",
        "batch norm sees a logical rank's samples: leave model.sync_batch_norm out": config.model.sync_batch_norm,
        "steps that are taken in turn are not supported: leave train.logical_ranks out": isinstance(
            config.step, tuple
        ),
    }
    found = [problem for problem, applies in problems.items() if applies]
    if logical is not None and found:
        raise ValueError(f"train.logical_ranks: {found[0]}")
    if elastic is not None and (problem := _not_elastic(config, elastic)):
        raise ValueError(f"train.elastic: {problem}")


def _not_elastic(config: Any, elastic: ElasticConfig) -> str:
    """Say why a run cannot be elastic; empty where it can."""
    logical = config.train.logical_ranks
    if logical is None:
        return "set train.logical_ranks, for without it the numbers depend on the processes"
    if elastic.max > logical:
        return f"max={elastic.max} is more than train.logical_ranks={logical}: lower it"
    others = {
        "hooks": config.hooks is not None,
        "train.compile": config.train.compile is not False,
        "train.verify_every": config.train.verify_every is not None,
        "log.profile": config.log.profile is not None,
        "data.max_micro_batch=auto": config.data.max_micro_batch == "auto",
    }
    found = [name for name, is_set in others.items() if is_set]
    return f"{found[0]} is not supported together with it: leave one of them out" if found else ""

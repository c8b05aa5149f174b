"""Parts of the ``train:`` section, and the ``hooks:`` section. No torch here: the command line reads this file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, model_serializer
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


def refuse_logical_ranks(
    logical_ranks: int | None, batch_size: int, *, sharded: bool, synchronised: bool, in_turn: bool
) -> None:
    """Refuse logical ranks where batches cannot be cut into them.

    Args:
        logical_ranks: ``train.logical_ranks``.
        batch_size: samples of a global batch.
        sharded: parameters are in parts.
        synchronised: batch norm is one of the whole batch.
        in_turn: several steps are taken in turn.

    Raises:
        ValueError: they cannot be.
    """
    problems = {
        f"{logical_ranks} parts of a batch of {batch_size}: make data.batch_size at least as large": (
            logical_ranks or 0
        )
        > batch_size,
        "whole parameters are needed: leave train.strategy out": sharded,
        "batch norm sees a logical rank's samples: leave model.sync_batch_norm out": synchronised,
        "steps that are taken in turn are not supported: leave train.logical_ranks out": in_turn,
    }
    found = [problem for problem, applies in problems.items() if applies]
    if logical_ranks is not None and found:
        raise ValueError(f"train.logical_ranks: {found[0]}")

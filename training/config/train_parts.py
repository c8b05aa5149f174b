"""Parts of the ``train:`` section. No torch here: the command line reads this file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...data.config import ConfigSection

Precision = Literal["auto", "fp32", "bf16", "fp16", "fp64"]
CompileMode = Literal["default", "dynamic", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]


class EmaConfig(ConfigSection):
    """``train.ema``: an exponential moving average of the parameters, which evaluation then uses."""

    decay: float = Field(default=0.999, gt=0, lt=1)
    """The share of the average that an update keeps; less in the first updates, to forget the random start."""
    every_steps: int = Field(default=1, gt=0)

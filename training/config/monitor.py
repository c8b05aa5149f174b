"""A metric that a decision is based on. No torch here: the command line reads this file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ...data.config import ConfigSection, MeasuredIn
from .metric_direction import Direction, direction_of

Mode = Literal["auto", "min", "max"]


class MonitorConfig(ConfigSection):
    """The metric of the validation that a decision is based on, and which way is better."""

    monitor: str = Field(default="val/loss", min_length=1)
    """The metric that decides, as the record names it, such as ``val/accuracy``."""
    mode: Mode = "auto"
    """Which way of it is better: ``auto`` goes by its name; one that does not tell needs ``min`` or ``max``."""

    @property
    def direction(self) -> Direction | None:
        """Which way is better; None where ``auto`` cannot tell."""
        return direction_of(self.monitor) if self.mode == "auto" else self.mode


def undirected(config: MonitorConfig, key: str) -> tuple[str, str]:
    """Say that nothing tells which way of the metric is better, and what to do.

    Args:
        config: with the metric.
        key: of this section.
    """
    what = f"{key}.monitor: the name {config.monitor} does not tell whether less or more is better"
    name = config.monitor.rpartition("/")[2]
    said = f"say it in metrics: {{use: …:{name}, better: lower}}, or higher"
    return what, f"set {key}.mode=min or {key}.mode=max, or {said}"


class EarlyStopConfig(MonitorConfig):
    """``train.early_stop``: end when the monitored metric has not improved for ``patience`` evaluations."""

    patience: Annotated[int, MeasuredIn("evaluations")] = Field(default=3, gt=0)
    """The run ends after this many evaluations in a row without an improvement."""
    min_delta: float = Field(default=0.0, ge=0)
    """A smaller improvement does not count."""

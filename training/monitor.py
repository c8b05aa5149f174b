"""What is decided from a metric: when to end early, and which checkpoints are the best."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..data.errors import UsageError
from ..data.suggest import did_you_mean
from .events import plain
from .spec import CheckpointConfig, EarlyStopConfig, MonitorConfig

_LOWER = ("loss", "error")


def signed(config: MonitorConfig, value: float | None) -> float:
    """``value`` so that more is better; what is no number is worst."""
    if value is None or not math.isfinite(value):
        return -math.inf
    lower = config.mode == "min" or (config.mode == "auto" and any(word in config.monitor for word in _LOWER))
    return -value if lower else value


def refuse_unknown(config: MonitorConfig, key: str, names: list[str]) -> None:
    """A monitored metric has to be one that this run measures.

    Raises:
        UsageError: it is not, which nobody would notice before the end.
    """
    if config.monitor not in names:
        near = did_you_mean(config.monitor, names)
        raise UsageError(
            f"{key}.monitor: {config.monitor} is not measured" + (f"; did you mean {near}?" if near else ""),
            f"this run measures {', '.join(names)}",
        )


@dataclass
class Patience:
    """How long the monitored metric has not improved."""

    monitor: str = ""
    best: float | None = None
    stalled: int = 0
    """Epochs since."""

    def update(self, config: EarlyStopConfig, metrics: dict[str, float]) -> None:
        """Take in an epoch's metrics."""
        if self.monitor != config.monitor:
            self.monitor, self.best, self.stalled = config.monitor, None, 0
        value = metrics.get(config.monitor)
        reached = -math.inf if self.best is None else signed(config, self.best) + config.min_delta
        if signed(config, value) > reached:
            self.best, self.stalled = value, 0
        else:
            self.stalled += 1

    def is_over(self, config: EarlyStopConfig | None) -> bool:
        """Whether the run has waited long enough."""
        return config is not None and self.monitor == config.monitor and self.stalled >= config.patience


@dataclass
class Ranking:
    """The best evaluations so far, best first."""

    monitor: str = ""
    entries: list[dict[str, Any]] = field(default_factory=list)
    """``{"step", "value"}``."""

    def update(self, config: CheckpointConfig, step: int, metrics: dict[str, float]) -> bool:
        """Take in the evaluation after ``step``; whether its checkpoint is among those to keep."""
        if self.monitor != config.monitor:
            self.monitor, self.entries = config.monitor, []
        if config.monitor not in metrics:
            return False
        entry = {"step": step, "value": plain(metrics[config.monitor])}
        everyone = [*(e for e in self.entries if e["step"] != step), entry]
        everyone.sort(key=lambda e: signed(config, e["value"]), reverse=True)  # stable: of equals the older
        self.entries = everyone[: config.keep_best]
        return entry in self.entries

    @property
    def steps(self) -> set[int]:
        """Whose checkpoints are kept."""
        return {int(entry["step"]) for entry in self.entries}


def superseded(found: list[int], keep_last: int | None, best: set[int]) -> list[int]:
    """The steps whose checkpoints may go, once the newest of ``found`` is committed.

    Args:
        found: steps of the checkpoints that are there, in any order.
        keep_last: how many of the newest stay; None is all.
        best: which stay besides.
    """
    if keep_last is None:
        return []
    older = sorted(found, reverse=True)[keep_last:]
    return sorted(set(older) - best)

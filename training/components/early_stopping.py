"""Decisions based on a metric: when to end early, and which checkpoints are the best."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...data.common import UsageError, closest_name
from ..config import EarlyStopConfig, MonitorConfig, undirected


def oriented(config: MonitorConfig, value: float | None) -> float:
    """Turn ``value`` so that more is better; what is not a number is worst."""
    if value is None or not math.isfinite(value):
        return -math.inf
    return -value if config.direction == "min" else value


def refuse_unmeasured(config: MonitorConfig, key: str, names: list[str]) -> None:
    """Refuse to monitor a metric that this run does not measure.

    Args:
        config: with the metric.
        key: of this section.
        names: what is measured; one that ends with a slash begins the names of a metric of several numbers.

    Raises:
        UsageError: it is not measured, which would go unnoticed until the end, or nothing tells which way is better.
    """
    begins = any(name.endswith("/") and config.monitor.startswith(name) for name in names)
    if config.monitor not in names and not begins:
        near = closest_name(config.monitor, names)
        raise UsageError(
            f"{key}.monitor: {config.monitor} is not measured" + (f"; did you mean {near}?" if near else ""),
            f"this run measures {', '.join(f'{name}…' if name.endswith('/') else name for name in names)}",
        )
    if config.direction is None:
        raise UsageError(*undirected(config, key))


@dataclass
class EarlyStopping:
    """A count of the epochs in which the monitored metric has not improved."""

    monitor: str = ""
    best: float | None = None
    stalled: int = 0
    """Epochs since."""

    def update(self, config: EarlyStopConfig, metrics: dict[str, float]) -> None:
        """Include an epoch's metrics."""
        if self.monitor != config.monitor:
            self.monitor, self.best, self.stalled = config.monitor, None, 0
        value = metrics.get(config.monitor)
        reached = -math.inf if self.best is None else oriented(config, self.best) + config.min_delta
        if oriented(config, value) > reached:
            self.best, self.stalled = value, 0
        else:
            self.stalled += 1

    def is_over(self, config: EarlyStopConfig | None) -> bool:
        """Check whether the run has waited long enough."""
        return config is not None and self.monitor == config.monitor and self.stalled >= config.patience

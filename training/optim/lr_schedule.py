"""The learning rates of an optimizer's groups, set before each step, and how they follow from the recorded metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..config import ScheduleConfig

_LEAST = 1e-8  # a rate is not lowered by less than this, as in torch


@dataclass
class _State:
    monitor: str
    best: float | None = None
    stalled: int = 0
    """Evaluations without improvement."""
    cooling: int = 0
    """Evaluations that do not count yet."""
    lowered: int = 0
    """How often the rate was lowered."""


class Plateau:
    """The counts of torch's ``ReduceLROnPlateau``, and the rates that follow from them.

    Args:
        config: the ``schedule:`` section, whose ``mode`` is known.
        peaks: the groups' learning rates.
    """

    def __init__(self, config: ScheduleConfig, peaks: list[float]) -> None:
        self._config = config
        self._first = peaks
        self._state = _State(self.monitor)
        self.peaks = list(peaks)
        """The groups' learning rates as they are now."""

    @property
    def monitor(self) -> str:
        """Return the metric that it goes by, as the record names it."""
        return self._config.monitor or "val/loss"

    def observe(self, metrics: dict[str, float]) -> bool:
        """Include the metrics of an evaluation; return whether the rates are lowered."""
        state, config = self._state, self._config
        value = metrics.get(self.monitor)
        if value is not None and self._is_better(value):
            state.best, state.stalled = value, 0
        else:
            state.stalled += 1
        if state.cooling:
            state.cooling, state.stalled = state.cooling - 1, 0
        if state.stalled <= (10 if config.patience is None else config.patience):
            return False
        state.cooling, state.stalled = config.cooldown or 0, 0
        state.lowered += 1
        before, self.peaks = self.peaks, [self._lowered(peak) for peak in self.peaks]
        return before != self.peaks

    def _is_better(self, value: float) -> bool:
        config, best = self._config, self._state.best
        least = 1e-4 if config.threshold is None else config.threshold
        if config.mode == "max":
            value, best = -value, None if best is None else -best
        if not math.isfinite(value):
            return False
        if best is None:
            return True
        # Of the rising metric both have the other sign: more than best * (1 + least) is less than -best * (1 + least).
        share = 1.0 + least if config.mode == "max" else 1.0 - least
        return value < (best - least if config.threshold_mode == "abs" else best * share)

    def _lowered(self, peak: float) -> float:
        low = max(peak * (self._config.factor or 0.1), min(self._config.min_lr, peak))
        return low if peak - low > _LEAST else peak

    def state(self) -> dict[str, Any]:
        """Return the counts as plain values."""
        return asdict(self._state)

    def load(self, state: dict[str, Any]) -> None:
        """Continue from ``state``; another metric begins anew, at the rates that were reached."""
        found = _State(**state)
        self._state = found if found.monitor == self.monitor else _State(self.monitor, lowered=found.lowered)
        self.peaks = list(self._first)
        for _ in range(self._state.lowered):
            self.peaks = [self._lowered(peak) for peak in self.peaks]


class LRSchedule:
    """The learning rate of every group: all are scaled alike.

    Args:
        optimizer: its groups' learning rates are the peaks.
        rate: (step, peak) to the rate; None leaves all as they are.
        plateau: lowers the peaks.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        rate: Callable[[int, float], float] | None,
        plateau: Plateau | None = None,
    ) -> None:
        self._groups = optimizer.param_groups
        self._peaks = peaks_of(optimizer)
        self._rate = rate
        self._plateau = plateau

    def set(self, step: int) -> None:
        """Make step ``step``, counted from 0 over the run, use its learning rate."""
        if self._rate is not None:
            peaks = self._peaks if self._plateau is None else self._plateau.peaks
            for group, peak in zip(self._groups, peaks, strict=True):
                group["lr"] = self._rate(step, peak)

    def observe(self, metrics: dict[str, float]) -> list[str]:
        """Show it the metrics of an evaluation; return why it lowers the rate, which only a plateau does."""
        if self._plateau is None or not self._plateau.observe(metrics):
            return []
        return [f"the learning rate is lowered: {self._plateau.monitor} has stopped improving"]

    def state(self) -> dict[str, Any] | None:
        """Return what is not a function of the step, as plain values; None where there is no such thing."""
        return None if self._plateau is None else self._plateau.state()

    def load(self, state: dict[str, Any] | None) -> None:
        """Continue from ``state``."""
        if self._plateau is not None and state is not None:
            self._plateau.load(state)


def peaks_of(optimizer: torch.optim.Optimizer) -> list[float]:
    """Return the learning rates that the groups of a new optimizer have."""
    return [float(group["lr"]) for group in optimizer.param_groups]

"""The learning rate as a function of the step."""

from __future__ import annotations

import math

import torch

from ..config import ScheduleConfig


class LRSchedule:
    """The learning rate of every group, set before each step.

    Args:
        config: the ``schedule:`` section.
        optimizer: its groups' learning rates are the peaks.
        steps: optimizer steps of the whole run.
    """

    def __init__(self, config: ScheduleConfig, optimizer: torch.optim.Optimizer, steps: int) -> None:
        self._config = config
        self._groups = optimizer.param_groups
        self._peaks = [float(group["lr"]) for group in optimizer.param_groups]
        self._steps = steps

    def set(self, step: int) -> None:
        """Make step ``step``, counted from 0 over the run, use its learning rate."""
        if self._config.use != "constant":
            for group, peak in zip(self._groups, self._peaks, strict=True):
                group["lr"] = learning_rate(self._config, peak, step, self._steps)


def learning_rate(config: ScheduleConfig, peak: float, step: int, steps: int) -> float:
    """Compute the learning rate of ``step`` of ``steps``; nothing but its arguments decides it."""
    if config.use == "constant":
        return peak
    low = min(config.min_lr, peak)
    return low + (peak - low) * 0.5 * (1.0 + math.cos(math.pi * step / max(1, steps)))

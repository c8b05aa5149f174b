"""Builds an optimizer's schedule; which ones there are is declared in ``config/schedules.py``."""

from __future__ import annotations

from pathlib import Path

import torch

from ..config import RunLength, ScheduleConfig
from .lr_schedule import LRSchedule, Plateau, peaks_of
from .schedules import build_rate


def build_schedule(
    config: ScheduleConfig, optimizer: torch.optim.Optimizer, length: RunLength, base: Path
) -> LRSchedule:
    """Make the schedule of an optimizer's groups.

    Args:
        config: the ``schedule:`` section, whose ``mode`` is known.
        optimizer: its groups' learning rates are the peaks.
        length: of the run.
        base: the folder of the config file.

    Raises:
        UsageError: there is no such function of the user's own.
    """
    plateau = Plateau(config, peaks_of(optimizer)) if config.use == "plateau" else None
    still = config.use == "constant" and config.warmup is None
    return LRSchedule(optimizer, None if still else build_rate(config, length, base), plateau)

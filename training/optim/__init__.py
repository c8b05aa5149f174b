"""Optimizers, learning rate schedules and averages of the weights."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .ema import Ema as Ema
    from .lr_schedule import LRSchedule as LRSchedule
    from .parameter_groups import build_optimizer as build_optimizer
else:
    __getattr__ = lazy_exports(__name__)

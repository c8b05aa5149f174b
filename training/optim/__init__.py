"""Optimizers, learning rate schedules and averages of the weights."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .ema import Ema as Ema
    from .lr_schedule import LRSchedule as LRSchedule
    from .optimizer_schedule import build_schedule as build_schedule
    from .parameter_groups import build_optimizer as build_optimizer
    from .schedule_view import VIEW_MODULE as VIEW_MODULE
    from .schedules import own_multiple as own_multiple
    from .schedules import table_steps as table_steps
    from .schedules import tabulate as tabulate
else:
    __getattr__ = lazy_exports(__name__)

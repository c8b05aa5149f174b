"""Optimizers, learning rate schedules and averages of the weights."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .ema import Ema as Ema
    from .freezing import Freezing as Freezing
    from .lr_schedule import LRSchedule as LRSchedule
    from .notes import describe_groups as describe_groups
    from .notes import optimizer_notes as optimizer_notes
    from .optimizer_building import build_optimizer as build_optimizer
    from .optimizer_schedule import build_schedule as build_schedule
    from .optimizer_state import OptimizerState as OptimizerState
    from .parameter_groups import assign_parameters as assign_parameters
    from .parameter_groups import divide_parameters as divide_parameters
    from .parameter_groups import freeze_parameters as freeze_parameters
    from .parameter_groups import trained_spans as trained_spans
    from .schedule_view import VIEW_MODULE as VIEW_MODULE
    from .schedules import own_multiple as own_multiple
    from .schedules import table_steps as table_steps
    from .schedules import tabulate as tabulate
    from .several import JointSchedule as JointSchedule
    from .several import JointState as JointState
    from .update import JointUpdate as JointUpdate
    from .update import Update as Update
else:
    __getattr__ = lazy_exports(__name__)

"""Losses, and what a loss or a metric may return."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .loss_contract import scalar_on as scalar_on
    from .loss_contract import sum_loss as sum_loss
    from .loss_contract import sum_metric as sum_metric
    from .loss_contract import term_sums as term_sums
    from .losses import build_objective as build_objective
    from .losses import default_metrics as default_metrics
    from .losses import ignored_label as ignored_label
    from .losses import is_built_in as is_built_in
    from .losses import needs_classes as needs_classes
    from .objective import Loss as Loss
    from .objective import LossObjective as LossObjective
    from .objective import Objective as Objective
    from .objective import Outcome as Outcome
    from .objective import StepModule as StepModule
    from .torch_losses import as_class_indices as as_class_indices
    from .torch_losses import refuse_no_tensors as refuse_no_tensors
    from .torch_losses import refuse_other_shape as refuse_other_shape
    from .turns import StepsInTurn as StepsInTurn
else:
    __getattr__ = lazy_exports(__name__)

"""Models, losses, metrics, optimizers, schedules and the rest that a config names."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import batch_norm as batch_norm
    from .early_stopping import Patience as Patience
    from .early_stopping import refuse_unknown as refuse_unknown
    from .early_stopping import signed as signed
    from .ema import Ema as Ema
    from .expanded_buffers import give_own_memory as give_own_memory
    from .loss_contract import Loss as Loss
    from .loss_contract import Metric as Metric
    from .loss_contract import count as count
    from .loss_contract import samples_in as samples_in
    from .loss_contract import total as total
    from .losses import build_loss as build_loss
    from .lr_schedule import Schedule as Schedule
    from .metrics import build_metrics as build_metrics
    from .models import _refuse_extra_state as _refuse_extra_state
    from .models import build_model as build_model
    from .optimizer import build_optimizer as build_optimizer
    from .optimizer import trainable as trainable
    from .precision import Numerics as Numerics
    from .precision import choose as choose
else:
    __getattr__ = lazy_exports(__name__)

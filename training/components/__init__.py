"""Models, their buffers and names, precision and early stopping."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import batch_norm as batch_norm
    from .common_buffers import alike_buffers as alike_buffers
    from .common_buffers import shared_buffers as shared_buffers
    from .common_buffers import take_rank_0s as take_rank_0s
    from .compilation import Compilation as Compilation
    from .dense_gradients import make_embeddings_dense as make_embeddings_dense
    from .dense_gradients import make_gradients_dense as make_gradients_dense
    from .early_stopping import EarlyStopping as EarlyStopping
    from .early_stopping import oriented as oriented
    from .early_stopping import refuse_unmeasured as refuse_unmeasured
    from .finite_weights import learned_tensors as learned_tensors
    from .finite_weights import non_finite as non_finite
    from .gradient_hooks import nonlinear_hooks as nonlinear_hooks
    from .head import fit_head as fit_head
    from .head import head_layers as head_layers
    from .models import build_model as build_model
    from .models import refuse_extra_state as refuse_extra_state
    from .precision import MixedPrecision as MixedPrecision
    from .precision import choose_precision as choose_precision
    from .recomputation import recompute as recompute
    from .stand_in import standing_in as standing_in
    from .sync_batch_norm import synchronised as synchronised
else:
    __getattr__ = lazy_exports(__name__)

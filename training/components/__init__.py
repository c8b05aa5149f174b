"""Models, their buffers and names, precision and early stopping."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import batch_norm as batch_norm
    from .buffer_memory import hash_to_63_bits as hash_to_63_bits
    from .buffer_memory import materialise_expanded_buffers as materialise_expanded_buffers
    from .common_buffers import alike_buffers as alike_buffers
    from .common_buffers import shared_buffers as shared_buffers
    from .compilation import Compilation as Compilation
    from .early_stopping import EarlyStopping as EarlyStopping
    from .early_stopping import oriented as oriented
    from .early_stopping import refuse_unmeasured as refuse_unmeasured
    from .finite_weights import learned_tensors as learned_tensors
    from .finite_weights import non_finite as non_finite
    from .head import fit_head as fit_head
    from .head import head_layers as head_layers
    from .models import build_model as build_model
    from .models import refuse_extra_state as refuse_extra_state
    from .plain_names import find_renaming as find_renaming
    from .plain_names import plain_buffers as plain_buffers
    from .plain_names import plain_name as plain_name
    from .plain_names import plain_state as plain_state
    from .plain_names import renamed as renamed
    from .precision import MixedPrecision as MixedPrecision
    from .precision import choose_precision as choose_precision
    from .recomputation import recompute as recompute
    from .sharded_tensors import cut_like as cut_like
    from .sharded_tensors import is_fsdp as is_fsdp
    from .sharded_tensors import is_sharded as is_sharded
    from .sharded_tensors import own_parts as own_parts
    from .sharded_tensors import whole as whole
    from .sharded_tensors import whole_tensors as whole_tensors
    from .stand_in import standing_in as standing_in
    from .state_loading import load_plain_state as load_plain_state
    from .storable_types import is_storable_dtype as is_storable_dtype
    from .sync_batch_norm import synchronised as synchronised
    from .trainable_parameters import trainable as trainable
else:
    __getattr__ = lazy_exports(__name__)

"""A model's tensors: their names, their memory, their parts on several processes."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .buffer_memory import fit_buffers as fit_buffers
    from .buffer_memory import hash_to_63_bits as hash_to_63_bits
    from .buffer_memory import materialise_expanded_buffers as materialise_expanded_buffers
    from .late_parameters import ParameterWatch as ParameterWatch
    from .plain_attributes import PlainAttributes as PlainAttributes
    from .plain_names import find_renaming as find_renaming
    from .plain_names import plain_buffers as plain_buffers
    from .plain_names import plain_name as plain_name
    from .plain_names import plain_state as plain_state
    from .plain_names import renamed as renamed
    from .plain_names import without_parallel_wrappers as without_parallel_wrappers
    from .sharded_tensors import cut_like as cut_like
    from .sharded_tensors import each_whole as each_whole
    from .sharded_tensors import is_fsdp as is_fsdp
    from .sharded_tensors import is_sharded as is_sharded
    from .sharded_tensors import own_parts as own_parts
    from .sharded_tensors import split_rows as split_rows
    from .sharded_tensors import whole as whole
    from .sharded_tensors import whole_tensors as whole_tensors
    from .state_loading import load_plain_state as load_plain_state
    from .storable_types import is_storable_dtype as is_storable_dtype
    from .stored_tensor import AnyTensor as AnyTensor
    from .stored_tensor import StoredRows as StoredRows
    from .stored_tensor import StoredTensor as StoredTensor
    from .stored_tensor import read_whole as read_whole
    from .trainable_parameters import trainable as trainable
    from .unregistered import refuse_unregistered as refuse_unregistered
else:
    __getattr__ = lazy_exports(__name__)

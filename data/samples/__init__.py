"""What a sample may be, how samples become a batch, and a hash of them."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .arrays import as_bytes as as_bytes
    from .arrays import shape_of as shape_of
    from .collation import TriedSamples as TriedSamples
    from .collation import collate as collate
    from .digest import SplitDigest as SplitDigest
    from .digest import fixed_randomness as fixed_randomness
    from .digest import refuse_changing_samples as refuse_changing_samples
    from .digest import run_user_code as run_user_code
    from .digest import sample_hashes as sample_hashes
    from .digest import split_digest as split_digest
    from .map_style import NO_NUMBERS as NO_NUMBERS
    from .map_style import lacks_of_map_style as lacks_of_map_style
    from .padding import Padding as Padding
    from .padding import build_padding as build_padding
    from .read_error import ReadError as ReadError
    from .sample_error import describe_value as describe_value
    from .sample_error import read_sample as read_sample
    from .sample_error import refuse_another_structure as refuse_another_structure
    from .sample_error import source_of as source_of
    from .sample_source import SampleSource as SampleSource
    from .tensor_split import TensorSplit as TensorSplit
    from .tensor_split import as_tensors as as_tensors
    from .tensor_split import contract_error as contract_error
    from .tree import is_pair as is_pair
    from .tree import map_tensors as map_tensors
    from .tree import named_parts as named_parts
    from .tree import split_target as split_target
    from .tree import structure as structure
else:
    __getattr__ = lazy_exports(__name__)

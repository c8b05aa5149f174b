"""The order of samples, their split over ranks, and the keys of their random numbers."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import counter_rng as counter_rng
    from .counter_rng import bits as bits
    from .folds import class_folds as class_folds
    from .folds import class_group_folds as class_group_folds
    from .folds import group_folds as group_folds
    from .folds import take_classes as take_classes
    from .folds import take_groups as take_groups
    from .interleaved_order import INTERLEAVED_ALGORITHM as INTERLEAVED_ALGORITHM
    from .interleaved_order import InterleavedOrder as InterleavedOrder
    from .row_groups import RowGroups as RowGroups
    from .sample_digest import chain_order_hash as chain_order_hash
    from .sample_digest import consumed as consumed
    from .sample_digest import from_limbs as from_limbs
    from .sample_digest import planned_digest_share as planned_digest_share
    from .sample_digest import to_limbs as to_limbs
    from .sample_order import ALGORITHM as ALGORITHM
    from .sample_order import EpochBatches as EpochBatches
    from .sample_order import EpochOrder as EpochOrder
    from .sample_order import FullOrder as FullOrder
    from .sample_order import Indices as Indices
    from .sample_order import SampleOrder as SampleOrder
    from .sample_order import logical_shards as logical_shards
    from .sample_order import micro_batch_sizes as micro_batch_sizes
    from .sample_order import permute as permute
    from .sample_order import shard as shard
    from .sampling import MixedOrder as MixedOrder
    from .sampling import WeightedOrder as WeightedOrder
    from .sampling import cumulate as cumulate
    from .sampling import share_out as share_out
    from .seeding import INITIAL_STATE as INITIAL_STATE
    from .seeding import extend_key as extend_key
    from .seeding import mix as mix
    from .seeding import seed_global_generators as seed_global_generators
    from .shuffle_quality import measure_shuffle as measure_shuffle
    from .window_order import WINDOW_ALGORITHM as WINDOW_ALGORITHM
    from .window_order import WindowOrder as WindowOrder
else:
    __getattr__ = lazy_exports(__name__)

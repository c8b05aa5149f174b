"""Shards: files of rows, read group by group in an order that is shuffled within a window."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .column_values import KINDS as KINDS
    from .sample_layout import SampleLayout as SampleLayout
    from .scanning import scan_shards as scan_shards
    from .scanning import stamps_of as stamps_of
    from .shard_format import StoredFile as StoredFile
    from .shard_formats import COMPRESSED as COMPRESSED
    from .shard_formats import ENDINGS as ENDINGS
    from .shard_formats import format_of as format_of
    from .shard_index import ShardIndex as ShardIndex
    from .shard_rows import ShardRows as ShardRows
else:
    __getattr__ = lazy_exports(__name__)

"""Where samples come from, one file for each data source."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .array_cache import Array as Array
    from .array_cache import CacheEntry as CacheEntry
    from .array_cache import cached as cached
    from .array_cache import class_counts as class_counts
    from .array_cache import entry_key as entry_key
    from .array_cache import fingerprint as fingerprint
    from .array_cache import load_array as load_array
    from .array_cache import save_array as save_array
    from .registry import SOURCES as SOURCES
    from .registry import find_source as find_source
    from .registry import held_inputs as held_inputs
    from .registry import open_split as open_split
    from .registry import sample_reader as sample_reader
    from .source import Reader as Reader
    from .source import Which as Which
    from .splits import ArraySplit as ArraySplit
    from .splits import MapSplit as MapSplit
else:
    __getattr__ = lazy_exports(__name__)

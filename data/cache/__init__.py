"""The cache of array files: built once per machine, mapped by every rank."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .array_cache import Array as Array
    from .array_cache import CacheEntry as CacheEntry
    from .array_cache import array_split_info as array_split_info
    from .array_cache import cache_root as cache_root
    from .array_cache import cached as cached
    from .array_cache import class_counts as class_counts
    from .array_cache import entry_key as entry_key
    from .array_cache import find_entry as find_entry
    from .array_cache import fingerprint as fingerprint
    from .array_cache import load_array as load_array
    from .array_cache import partial_folder as partial_folder
    from .array_cache import save_array as save_array
    from .cache_list import ListedEntry as ListedEntry
    from .cache_list import list_entries as list_entries
    from .cache_list import remove_entry as remove_entry
    from .free_space import allocated_bytes as allocated_bytes
    from .free_space import format_bytes as format_bytes
    from .free_space import free_bytes as free_bytes
    from .free_space import memory_bytes as memory_bytes
else:
    __getattr__ = lazy_exports(__name__)

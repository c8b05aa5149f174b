"""Where samples come from, one file for each data source."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .decoded_set import with_decoded_images as with_decoded_images
    from .registry import SOURCES as SOURCES
    from .registry import find_source as find_source
    from .registry import held_inputs as held_inputs
    from .registry import open_order as open_order
    from .registry import open_split as open_split
    from .registry import sample_reader as sample_reader
    from .source import DataSource as DataSource
    from .source import Reader as Reader
    from .source import Which as Which
    from .splits import ArraySplit as ArraySplit
    from .splits import ManyRows as ManyRows
    from .splits import MapSplit as MapSplit
else:
    __getattr__ = lazy_exports(__name__)

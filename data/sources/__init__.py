"""Where samples come from, one file for each data source."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import csv_images as csv_images
    from . import digits as digits
    from . import linear_regression as linear_regression
    from . import shards as shards
    from . import torchvision_sets as torchvision_sets
    from . import user_dataset as user_dataset
    from .source import DataSource as DataSource
    from .source import PreparedSplit as PreparedSplit
    from .source import Reader as Reader
    from .source import Which as Which
    from .source import open_arrays as open_arrays
    from .source import read_arrays as read_arrays
    from .splits import ArraySplit as ArraySplit
    from .splits import ManyRows as ManyRows
    from .splits import MapSplit as MapSplit
else:
    __getattr__ = lazy_exports(__name__)

"""The `data:` section of a config, and what is known of a data set."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .data_config import AugmentConfig as AugmentConfig
    from .data_config import DataConfig as DataConfig
    from .data_config import Section as Section
    from .dataset_info import DataFacts as DataFacts
    from .dataset_info import SplitFacts as SplitFacts
else:
    __getattr__ = lazy_exports(__name__)

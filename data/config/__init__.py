"""The schema of the `data:` section, and what is known of a data set."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .data_config import COLOURED as COLOURED
    from .data_config import MIX as MIX
    from .data_config import MIXING as MIXING
    from .data_config import AugmentConfig as AugmentConfig
    from .data_config import AugmentStep as AugmentStep
    from .data_config import DataConfig as DataConfig
    from .data_look import BATCH_SIZE as BATCH_SIZE
    from .data_look import DataLook as DataLook
    from .data_look import FoundSetting as FoundSetting
    from .data_look import PartLook as PartLook
    from .data_look import SplitLook as SplitLook
    from .data_look import ValueKind as ValueKind
    from .dataset_info import DatasetInfo as DatasetInfo
    from .other_data import as_trained as as_trained
    from .other_data import evaluation_section as evaluation_section
    from .other_data import names_function as names_function
    from .sampling import Sampling as Sampling
    from .sections import ConfigSection as ConfigSection
    from .sections import MeasuredIn as MeasuredIn
    from .sections import PackConfig as PackConfig
    from .sections import PadConfig as PadConfig
    from .split_info import SplitInfo as SplitInfo
else:
    __getattr__ = lazy_exports(__name__)

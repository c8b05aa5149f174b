"""From positions in an epoch to batches on the device, augmentation included."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .augment import Augmentation as Augmentation
    from .augment import augmentation as augmentation
    from .augment import check_augment as check_augment
    from .feed import Feed as Feed
    from .feed import StepBatch as StepBatch
    from .feed import Work as Work
    from .feed_choice import open_feed as open_feed
    from .normalise import Normalisation as Normalisation
    from .normalise import build_normalisation as build_normalisation
else:
    __getattr__ = lazy_exports(__name__)

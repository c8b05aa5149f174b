"""Whether ranks hang: evidence, verdict and report."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .coordinator import Inquiry as Inquiry
    from .follower_monitor import Witness as Witness
    from .rank_monitor import Lookout as Lookout
else:
    __getattr__ = lazy_exports(__name__)

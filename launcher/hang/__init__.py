"""Whether ranks hang: evidence, verdict and report."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .coordinator import HangCoordinator as HangCoordinator
    from .follower_monitor import FollowerRankMonitor as FollowerRankMonitor
    from .progress_times import HangLimit as HangLimit
    from .progress_times import ProgressTimes as ProgressTimes
    from .rank_monitor import RankMonitor as RankMonitor
else:
    __getattr__ = lazy_exports(__name__)

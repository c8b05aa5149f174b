"""How far the ranks may go: the pages that they share with the supervisor, and the horizon."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .follower_page import FollowerPage as FollowerPage
    from .horizon_control import HorizonControl as HorizonControl
    from .rank_processes import RankProcesses as RankProcesses
    from .scaling import Scaling as Scaling
    from .supervisor_page import SupervisorPage as SupervisorPage
else:
    __getattr__ = lazy_exports(__name__)

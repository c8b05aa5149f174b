"""How far ranks may go: the horizon, and the time limit."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .horizon_control import Steering as Steering
    from .job_context import Submitted as Submitted
    from .supervisor_page import RankPage as RankPage
    from .time_limit import LIMIT as LIMIT
    from .time_limit import Deadline as Deadline
else:
    __getattr__ = lazy_exports(__name__)

"""How far the ranks may go: stop requests, the step horizon, the time limit."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .horizon_control import HorizonControl as HorizonControl
    from .job_context import JobContext as JobContext
    from .supervisor_page import SupervisorPage as SupervisorPage
    from .time_limit import LIMIT as LIMIT
    from .time_limit import TimeLimitWatch as TimeLimitWatch
else:
    __getattr__ = lazy_exports(__name__)

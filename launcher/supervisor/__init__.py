"""Starts the agent, watches the ranks, restarts them, and decides every end."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .agent_orders import Job as Job
    from .agent_orders import modules_for as modules_for
    from .agent_orders import next_attempt as next_attempt
    from .agent_orders import order_of as order_of
    from .agent_orders import visible_gpus as visible_gpus
    from .live_view import View as View
    from .rank_outputs import Outputs as Outputs
    from .restarts import Restarts as Restarts
    from .supervisor import Known as Known
    from .supervisor import Supervisor as Supervisor
else:
    __getattr__ = lazy_exports(__name__)

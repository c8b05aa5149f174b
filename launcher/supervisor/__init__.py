"""The supervisor of a node: it starts the agent, watches the ranks, restarts or ends them."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .agent_start import AgentStart as AgentStart
    from .agent_start import modules_to_preimport as modules_to_preimport
    from .agent_start import next_attempt_folder as next_attempt_folder
    from .agent_start import visible_gpus as visible_gpus
    from .data_request import DataRequest as DataRequest
    from .heard_signals import HeardSignals as HeardSignals
    from .launch import Launch as Launch
    from .live_view import LiveView as LiveView
    from .rank_outputs import RankOutputs as RankOutputs
    from .workload import Workload as Workload
else:
    __getattr__ = lazy_exports(__name__)

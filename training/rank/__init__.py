"""One rank as a process: its group, its control page, its error report."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .control_page import PHASES as PHASES
    from .control_page import Control as Control
    from .control_page import Horizon as Horizon
    from .control_page import Page as Page
    from .error_report import reported as reported
    from .error_report import write_json as write_json
    from .fencing_token import Fence as Fence
    from .fencing_token import take_over as take_over
    from .host_tuning import tune_host as tune_host
    from .process_group import Group as Group
    from .process_group import join as join
else:
    __getattr__ = lazy_exports(__name__)

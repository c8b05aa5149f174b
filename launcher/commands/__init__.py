"""Commands on existing runs and on data: status, logs, stop, checkpoint, cancel, show."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .cache import show_cache as show_cache
    from .compare import compare_runs as compare_runs
    from .logs import show_logs as show_logs
    from .remove import remove_runs as remove_runs
    from .scale import scale_run as scale_run
    from .show import show_samples as show_samples
    from .status import show_status as show_status
    from .stop import cancel_run as cancel_run
    from .stop import checkpoint_run as checkpoint_run
    from .stop import stop_run as stop_run
else:
    __getattr__ = lazy_exports(__name__)

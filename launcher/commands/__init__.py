"""Commands on existing runs and on data: status, logs, stop, checkpoint, cancel, show."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import logs as logs
    from . import show as show
    from . import status as status
    from . import stop as stop
else:
    __getattr__ = lazy_exports(__name__)

"""`launch plot` and `launch report`: curves, pictures and a page, made of the record of a run."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .plot import plot_runs as plot_runs
    from .report import report_run as report_run
else:
    __getattr__ = lazy_exports(__name__)

"""`launch check`: trial runs, verdicts and their report."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .run_check import check as check
else:
    __getattr__ = lazy_exports(__name__)

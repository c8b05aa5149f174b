"""The process that forks the ranks, and what a rank does before the user's code."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .data_child import PREPARATION as PREPARATION
    from .rank_process import argv_bytes as argv_bytes
else:
    __getattr__ = lazy_exports(__name__)

"""Metrics."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .metrics import build_metrics as build_metrics
else:
    __getattr__ = lazy_exports(__name__)

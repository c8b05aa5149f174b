"""Ranks that hold the same state are compared while they train, and one whose bits differ is named."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .verifier import Verifier as Verifier
else:
    __getattr__ = lazy_exports(__name__)

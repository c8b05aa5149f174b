"""Ranks that hold the same state are compared while they train, and one whose bits differ is named."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .digests import StateDigest as StateDigest
    from .verifier import Verifier as Verifier
    from .verifier import replicated_tensors as replicated_tensors
else:
    __getattr__ = lazy_exports(__name__)

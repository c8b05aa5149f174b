"""A data set introduces itself: what samples and classes are, and what is suspicious."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .introduction import introduce as introduce
else:
    __getattr__ = lazy_exports(__name__)

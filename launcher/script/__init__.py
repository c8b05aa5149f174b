"""`launch run`: any torchrun-style script."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .program import ScriptRequest as ScriptRequest
    from .program import debug as debug
    from .program import run as run
else:
    __getattr__ = lazy_exports(__name__)

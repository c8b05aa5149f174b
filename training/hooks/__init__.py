"""Hooks: a user's functions that are called at a few points of a run, what they log, and what they keep."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .hook_log import HookLog as HookLog
    from .hooks import Hooks as Hooks
    from .hooks import RunProgress as RunProgress
    from .hooks import load_hooks as load_hooks
else:
    __getattr__ = lazy_exports(__name__)

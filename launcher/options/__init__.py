"""Options that every launch has: its nodes and its supervision."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .local_task import LocalTask as LocalTask
    from .multi_node import NodeOptions as NodeOptions
    from .multi_node import place_text as place_text
    from .supervision import SupervisionOptions as SupervisionOptions
else:
    __getattr__ = lazy_exports(__name__)

"""What a launch was asked for that is the same for a training and a script."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .multi_node import Nodes as Nodes
    from .supervision import SupervisionOptions as SupervisionOptions
else:
    __getattr__ = lazy_exports(__name__)

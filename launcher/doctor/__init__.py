"""`launch doctor`: what of this machine a training needs, and how well it works."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .examination import examine as examine
    from .examination import preflight as preflight
else:
    __getattr__ = lazy_exports(__name__)

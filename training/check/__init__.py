"""What the ranks do for `launch check`."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .finding import Finding as Finding
    from .finding import finding_from_json as finding_from_json
else:
    __getattr__ = lazy_exports(__name__)

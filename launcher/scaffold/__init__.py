"""`launch init`: a project of one's own to begin with."""

from typing import TYPE_CHECKING

from ...data.common.lazy import lazy_exports

if TYPE_CHECKING:
    from .new_project import make_project as make_project
else:
    __getattr__ = lazy_exports(__name__)

"""Image files that may be hostile, and their decoded pixels in one file."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .image_files import LOST as LOST
    from .image_files import ImageHeader as ImageHeader
    from .image_files import load_image as load_image
    from .image_files import read_image_header as read_image_header
else:
    __getattr__ = lazy_exports(__name__)

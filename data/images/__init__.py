"""Image files that may be hostile, and their decoded pixels in one file."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .image_cache import BAD as BAD
    from .image_cache import decode_splits as decode_splits
    from .image_files import LOST as LOST
    from .image_files import ImageHeader as ImageHeader
    from .image_files import load_image as load_image
    from .image_files import read_image_header as read_image_header
    from .image_split import ImageSettings as ImageSettings
    from .image_split import ImageSplit as ImageSplit
    from .path_checker import PathChecker as PathChecker
    from .stored_images import StoredImages as StoredImages
else:
    __getattr__ = lazy_exports(__name__)

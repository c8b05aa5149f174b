"""Image files with labels, from a table or from folders."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import csv_images as csv_images
    from . import image_folder as image_folder
else:
    __getattr__ = lazy_exports(__name__)

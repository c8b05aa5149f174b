"""Tables of numbers: CSV files as arrays that all ranks map."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import csv_source as csv_source
else:
    __getattr__ = lazy_exports(__name__)

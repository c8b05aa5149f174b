"""What a trained model is asked about: images, tables and arrays, given by a user."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .input_rows import InputRows as InputRows
    from .input_rows import find_inputs as find_inputs
else:
    __getattr__ = lazy_exports(__name__)

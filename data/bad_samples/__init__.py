"""Samples that cannot be read, and what takes their place."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .bad_samples import ATTEMPTS as ATTEMPTS
    from .bad_samples import BadSamples as BadSamples
    from .bad_samples import BadSamplesNews as BadSamplesNews
    from .bad_samples import Skipping as Skipping
    from .bad_samples import is_bad_input as is_bad_input
    from .bad_samples import known_notes as known_notes
    from .bad_samples import known_rows as known_rows
    from .bad_samples import most_bad as most_bad
    from .bad_samples import skipping as skipping
    from .bad_samples import too_many_error as too_many_error
    from .bad_samples import write_rows as write_rows
else:
    __getattr__ = lazy_exports(__name__)

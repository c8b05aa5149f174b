"""Data sets as a config names them: sources by name, several as one, what is held out, how often a sample comes."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from .decoded_set import with_decoded_images as with_decoded_images
    from .epoch_sampling import add_sampling as add_sampling
    from .held_out import hold_out as hold_out
    from .shared_data import with_shared_data as with_shared_data
    from .source_list import SOURCES as SOURCES
    from .source_list import held_inputs as held_inputs
    from .source_list import open_order as open_order
    from .source_list import open_split as open_split
    from .source_list import sample_reader as sample_reader
    from .source_list import source_of as source_of
else:
    __getattr__ = lazy_exports(__name__)

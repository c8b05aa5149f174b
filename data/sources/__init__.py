"""Where samples come from, one file for each data source."""

from typing import TYPE_CHECKING

from ..common.lazy import lazy_exports

if TYPE_CHECKING:
    from . import digits as digits
    from . import linear_regression as linear_regression
    from . import shards as shards
    from . import torchvision_sets as torchvision_sets
    from . import user_dataset as user_dataset
    from .arguments import ImageArguments as ImageArguments
    from .arguments import argument as argument
    from .arguments import colour_mode as colour_mode
    from .arguments import distinct_names as distinct_names
    from .arguments import height_and_width as height_and_width
    from .arguments import kind_of_label as kind_of_label
    from .arguments import one_character as one_character
    from .arguments import one_or_several_names as one_or_several_names
    from .arguments import read_arguments as read_arguments
    from .arguments import text as text
    from .class_labels import class_names as class_names
    from .class_labels import label_notes as label_notes
    from .csv_table import IMAGE_SUFFIXES as IMAGE_SUFFIXES
    from .csv_table import MAX_LISTED_NAMES as MAX_LISTED_NAMES
    from .csv_table import CsvFile as CsvFile
    from .csv_table import Table as Table
    from .csv_table import check_column as check_column
    from .csv_table import open_csv as open_csv
    from .csv_table import read_chunks as read_chunks
    from .csv_table import read_column as read_column
    from .csv_table import read_columns as read_columns
    from .csv_table import read_table as read_table
    from .iterable_rows import IterableRows as IterableRows
    from .iterable_rows import first_rows as first_rows
    from .iterable_set import as_indices as as_indices
    from .source import DataSource as DataSource
    from .source import PreparedSplit as PreparedSplit
    from .source import Reader as Reader
    from .source import Which as Which
    from .source import known_bad as known_bad
    from .source import no_inputs as no_inputs
    from .source import open_arrays as open_arrays
    from .source import read_arrays as read_arrays
    from .splits import ArraySplit as ArraySplit
    from .splits import ManyRows as ManyRows
    from .splits import MapSplit as MapSplit
else:
    __getattr__ = lazy_exports(__name__)

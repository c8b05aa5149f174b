"""What a data source declares: its name, its arguments, how it is prepared and how a rank opens it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..bad_samples import known_rows
from ..cache import Array, load_array
from ..common import UsageError
from ..config import DataConfig, DatasetInfo, SplitInfo
from ..images import ImageSplit
from ..order import Indices, SampleOrder
from .arguments import read_arguments
from .splits import ArraySplit, MapSplit

_MOST_BYTES = 2**28
Which = str
"""``train``, ``val``, or another split of the data set."""
Reader = tuple[int, Callable[[int], Any]]
"""How many rows there are, and what reads one of them."""


@dataclass(frozen=True)
class PreparedSplit:
    """One split as the preparation left it: what an opener gets."""

    facts: DatasetInfo
    """Of the whole data set."""
    which: Which
    info: SplitInfo
    subset: Indices | None
    """The rows that belong to the split, ascending; None is all."""
    config: DataConfig
    base: Path
    """The folder of the config file."""


def open_arrays(split: PreparedSplit) -> ArraySplit:
    """Open a split that the cache holds whole, as memory maps."""
    import torch

    x, y = (torch.from_numpy(load_array(split.info.files[role])) for role in ("x", "y"))
    return ArraySplit(x, y, split.subset, known_bad(split))


def known_bad(split: PreparedSplit) -> dict[int, str]:
    """Read which of a split's own rows are bad, and why."""
    rows = known_rows(split.info.files.get("bad"))
    if split.subset is None:
        return rows
    own = np.intersect1d(split.subset, np.array(sorted(rows), np.int64)).tolist()
    return {row: rows[row] for row in own}


def read_arrays(split: PreparedSplit) -> Reader:
    """Read samples of a split that the cache holds whole, without torch."""
    x, y = (load_array(split.info.files[role]) for role in ("x", "y"))
    return len(x), lambda row: (x[row], y[row])


def stored_inputs(split: PreparedSplit) -> Array | None:
    """Return all inputs that the cache holds of a split; None where they are too large to be looked through."""
    return of_subset(load_array(split.info.files["x"]), split)


def of_subset(x: Array, split: PreparedSplit) -> Array | None:
    """Choose the rows of a split, unless there are too many to be looked through."""
    if x.nbytes > _MOST_BYTES:
        return None
    return x if split.subset is None else x[split.subset]


def no_inputs(split: PreparedSplit) -> Array | None:  # noqa: ARG001 - as others need it
    """Return nothing: the samples are read one by one."""
    return None


def stored_targets(facts: DatasetInfo, config: DataConfig, base: Path) -> Array:  # noqa: ARG001 - as others need them
    """Read all targets of the training set from the cache."""
    return load_array(facts.train.files["y"])


def no_column(config: DataConfig, base: Path, key: str, name: str | None) -> Array | None:  # noqa: ARG001
    """Return nothing, where nothing is asked for by name.

    Raises:
        UsageError: there are no columns.
    """
    if name is not None:
        raise UsageError(f"data.{key}: {config.use} has no column {name!r}, nor any other", "leave it out")
    return None


def no_order(split: PreparedSplit) -> SampleOrder | None:  # noqa: ARG001 - as others need it
    """Return nothing: the order is one permutation of all samples."""
    return None


@dataclass(frozen=True)
class DataSource:
    """A source that ``data.use`` can name."""

    name: str
    meaning: str
    """What it is, in one sentence; the reference shows it."""
    arguments: type[Any] | None
    """Schema of ``data.args``, a dataclass of ``arguments.argument``; None takes whatever is given, as a dict."""
    make_ready: Callable[[Any, DataConfig, Path], DatasetInfo]
    """Makes the data ready, once per machine before the ranks start; gets the arguments, the ``data`` section and the
    folder of the config file."""
    open: Callable[[PreparedSplit], ArraySplit | MapSplit] = open_arrays
    """Opens a split in a rank; nothing is downloaded, checked or split there."""
    read: Callable[[PreparedSplit], Reader] = read_arrays
    """Reads single rows, before the ranks start and without torch where the source needs none."""
    inputs: Callable[[PreparedSplit], Array | None] = stored_inputs
    """Returns all inputs of a split where they are at hand as an array."""
    targets: Callable[[DatasetInfo, DataConfig, Path], Array] = stored_targets
    """Reads all targets of the training set; called only where they are classes that can be counted."""
    column: Callable[[DataConfig, Path, str, str | None], Array | None] = no_column
    """Reads a column of the training set: by its name, or what the data say by themselves for a key, which is
    ``weights``, ``group`` or ``targets``; None where they say nothing."""
    order: Callable[[PreparedSplit], SampleOrder | None] = no_order
    """Returns the order of the training samples; None is one permutation of all of them."""
    images: Callable[[PreparedSplit], ImageSplit] | None = None
    """Describes a split of image files whose decoded pixels may be kept in the cache, as ``x`` of its files."""

    def prepare(self, config: DataConfig, base: Path) -> DatasetInfo:
        """Check the arguments and make the data ready.

        Raises:
            UsageError: an argument is wrong.
        """
        schema = self.arguments
        arguments = config.args if schema is None else read_arguments(self.name, schema, config.args)
        return self.make_ready(arguments, config, base)

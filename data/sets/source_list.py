"""The data sources that a config can name: a new one is a file in ``sources/``, and its line in ``SOURCES``."""

from __future__ import annotations

from pathlib import Path

from ..cache import Array, load_array
from ..common import UsageError, suggestion
from ..config import MIX, DataConfig, DatasetInfo
from ..image_sets import csv_images, image_folder
from ..images import ImageSplit
from ..order import SampleOrder
from ..sources import (
    ArraySplit,
    DataSource,
    MapSplit,
    PreparedSplit,
    Reader,
    Which,
    digits,
    linear_regression,
    shards,
    torchvision_sets,
    user_dataset,
)
from ..tables import csv_source
from .epoch_sampling import sampled_order
from .mixture import mixture
from .packed import packed

SOURCES: dict[str, DataSource] = {
    source.name: source
    for source in (
        digits.SOURCE,
        linear_regression.SOURCE,
        csv_images.SOURCE,
        image_folder.SOURCE,
        csv_source.SOURCE,
        shards.SOURCE,
        *torchvision_sets.TORCHVISION_SOURCES,
    )
}


def find_source(use: str) -> DataSource:
    """Find what ``data.use`` names; ``package.module:callable`` and ``./file.py:callable`` are the user's own data.

    Raises:
        UsageError: there is no such source.
    """
    if use in SOURCES:
        return SOURCES[use]
    if use == MIX:
        return mixture(find_source)
    if ":" in use:
        return user_dataset.SOURCE
    raise UsageError(
        f"data.use: there is no data set {use!r}{suggestion(use, SOURCES)}",
        f"the data sets are {', '.join(sorted(SOURCES))}, package.module:callable and ./file.py:callable",
    )


def source_of(config: DataConfig) -> DataSource:
    """Find the source of a ``data`` section; errors as of ``find_source``."""
    return find_source(config.use) if config.pack is None else packed(find_source)


def open_split(facts: DatasetInfo, which: Which, config: DataConfig, base: Path) -> ArraySplit | MapSplit:
    """Open one split in this process; nothing is downloaded, checked or split here.

    Args:
        facts: from ``prepare`` on the same machine.
        which: a split that is there.
        config: the ``data`` section that the facts are of.
        base: the folder of the config file.

    Raises:
        DamagedError: a file is gone, or the user's data set has another length than before.
    """
    return source_of(config).open(_prepared(facts, which, config, base))


def sample_reader(facts: DatasetInfo, which: Which, config: DataConfig, base: Path) -> Reader:
    """Return the length of a split, and what reads one of its samples; arguments as of ``open_split``."""
    split = _prepared(facts, which, config, base)
    length, read = source_of(config).read(split)
    rows = split.subset
    return (length, read) if rows is None else (len(rows), lambda position: read(int(rows[position])))


def held_inputs(facts: DatasetInfo, which: Which, config: DataConfig, base: Path) -> Array | None:
    """Return all inputs of a split where they are at hand as an array; arguments as of ``open_split``."""
    return source_of(config).inputs(_prepared(facts, which, config, base))


def open_order(facts: DatasetInfo, config: DataConfig, base: Path) -> SampleOrder:
    """Return the rule by which training samples come in an epoch; arguments as of ``open_split``."""
    own = source_of(config).order(_prepared(facts, "train", config, base))
    return sampled_order(facts) if own is None else own


def image_split(facts: DatasetInfo, which: Which, config: DataConfig, base: Path) -> ImageSplit | None:
    """Describe the image files of a split; None where it has none. Arguments as of ``open_split``."""
    images = source_of(config).images
    return None if images is None else images(_prepared(facts, which, config, base))


def _prepared(facts: DatasetInfo, which: Which, config: DataConfig, base: Path) -> PreparedSplit:
    info = facts.split(which)
    if info is None:
        raise ValueError(f"{facts.name} has no split {which!r}")
    subset = None if info.subset is None else load_array(info.subset)
    return PreparedSplit(facts, which, info, subset, config, base)

"""``csv_images``: image files and labels from a CSV that pandas reads; every row is checked beforehand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common import UsageError, relative_path_hint
from ..config import DataConfig, DatasetInfo, FoundSetting
from ..sources import DataSource, argument, distinct_names, no_inputs, one_character, read_arguments, text
from .class_labels import class_names, label_notes
from .csv_table import Table, read_column, read_table
from .image_survey import ImageSurvey
from .listed_images import (
    ListedImages,
    describe_tables,
    found_settings,
    image_files,
    open_images,
    read_images,
)


@dataclass(frozen=True)
class CsvImagesArguments(ListedImages):
    """``data.args`` of ``csv_images``; relative paths start from the config's folder."""

    root: str | None = text(".")
    """The folder that the paths in the CSV files start from."""
    train_csv: str | None = text()
    """The CSV file of the training samples, one row for each; it must be given."""
    val_csv: str | None = text()
    """The CSV file of the validation samples; unset: there are none."""
    path_column: str | None = text("path")
    """The column with the paths of the images."""
    label_column: str | None = text("label")
    """The column with the labels."""
    separator: str | None = argument(one_character)
    """The character between the fields of a CSV file; unset: the one with which the header names both columns."""
    classes: tuple[str, ...] | None = argument(distinct_names)
    """The classes in the order of their indices; unset: the labels of the training file, numbers in their order."""


def describe(arguments: CsvImagesArguments, config: DataConfig, base: Path) -> DatasetInfo:
    """Check every row of the CSV files, look at the images, and keep paths and labels as arrays in the cache.

    Args:
        arguments: name the files.
        config: the ``data`` section.
        base: the folder that relative paths start from.

    Raises:
        UsageError: an argument is wrong, or a file it names is not there.
        DamagedError: a row of a CSV is wrong, or an image that was looked at cannot be read.
    """
    root = _image_root(arguments, base)
    files = {"train": arguments.train_csv, "val": arguments.val_csv}
    tables = {
        which: _read_table(arguments, base, f"{which}_csv", name)
        for which, name in files.items()
        if which == "train" or name is not None
    }
    names = arguments.classes or class_names(tables["train"])
    facts, survey = describe_tables("csv_images", tables, root, names, arguments, config)
    return replace(
        facts,
        notes=(*label_notes(tables["train"], names, given=arguments.classes is not None), *facts.notes),
        found=_found(tables["train"], names, survey, arguments),
    )


def _found(
    table: Table, names: tuple[str, ...], survey: ImageSurvey, arguments: CsvImagesArguments
) -> tuple[FoundSetting, ...]:
    """Return the settings that the files have decided."""
    found = {
        "separator": (table.separator, f"in the header of {table.file.name}"),
        "classes": (names, f"the labels of {table.file.name}"),
    }
    return found_settings(found, survey, arguments)


def _image_root(arguments: CsvImagesArguments, base: Path) -> Path:
    root = (base / Path(arguments.root or ".").expanduser()).resolve()
    if not root.is_dir():
        raise UsageError(f"data.args.root: there is no folder {root}", relative_path_hint(base))
    return root


def _read_table(arguments: CsvImagesArguments, base: Path, key: str, name: str | None) -> Table:
    if name is None:
        raise UsageError(f"data.args.{key} is missing", "name the CSV file that lists images and labels")
    file = (base / Path(name).expanduser()).absolute()
    if not file.is_file():
        raise UsageError(
            f"data.args.{key}: there is no file {file}", _missing_file_hint(arguments, base, key, name)
        )
    columns = [arguments.path_column or "path", arguments.label_column or "label"]
    return read_table(file, columns, arguments.separator)


def _missing_file_hint(arguments: CsvImagesArguments, base: Path, key: str, name: str) -> str:
    """Name the file below the images' root, where many keep it; else say where paths start."""
    if arguments.root and (_image_root(arguments, base) / name).is_file():
        return f"there is one in data.args.root: data.args.{key}={Path(arguments.root) / name}"
    return relative_path_hint(base)


def _column(config: DataConfig, base: Path, key: str, name: str | None) -> NDArray[Any] | None:
    if name is None:
        return None
    arguments = read_arguments("csv_images", CsvImagesArguments, config.args)
    file = (base / Path(arguments.train_csv or "").expanduser()).absolute()
    columns = [arguments.path_column or "path", arguments.label_column or "label"]
    return np.array(read_column(file, columns, arguments.separator, name, f"data.{key}"))


SOURCE = DataSource(
    "csv_images",
    "Image files, with paths and labels from a CSV file.",
    CsvImagesArguments,
    describe,
    open_images,
    read_images,
    no_inputs,
    column=_column,
    images=image_files,
)

"""``csv_images``: image files and labels from a CSV that pandas reads; every row is checked beforehand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common import UsageError, relative_path_hint
from ..config import DataConfig, DatasetInfo, FoundSetting
from ..sources import (
    DataSource,
    Table,
    argument,
    class_names,
    distinct_names,
    kind_of_label,
    label_notes,
    no_inputs,
    one_character,
    one_or_several_names,
    read_arguments,
    read_columns,
    read_table,
    text,
)
from .image_survey import ImageSurvey
from .listed_images import (
    ListedImages,
    describe_tables,
    found_settings,
    image_files,
    open_images,
    read_images,
)
from .row_labels import RowLabels, class_labels, multi_labels, names_within, number_labels


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
    label_column: str | tuple[str, ...] | None = argument(one_or_several_names, "label")
    """The column with the labels; a list of columns holds numbers, such as 0 and 1: the target is a float32 vector."""
    label_separator: str | None = argument(one_character)
    """The character between the labels of a sample that has several: the target has 1 for each class that is named,
    and else 0, float32; unset: each sample has one label."""
    label_kind: str | None = argument(kind_of_label)
    """``numbers``: the column holds numbers, not classes, and the target is float32 of shape [1]; unset: classes."""
    separator: str | None = argument(one_character)
    """The character between the fields of a CSV file; unset: the one with which the header names both columns."""
    classes: tuple[str, ...] | None = argument(distinct_names)
    """The classes in the order of their indices; unset: the labels of the training file, numbers in their order."""

    @property
    def label_columns(self) -> tuple[str, ...]:
        """Return the columns of the labels."""
        column = self.label_column or "label"
        return (column,) if isinstance(column, str) else column

    @property
    def has_numbers(self) -> bool:
        """Whether labels are numbers."""
        return not isinstance(self.label_column or "", str) or self.label_kind == "numbers"

    @property
    def has_classes(self) -> bool:
        """Whether each sample has one class."""
        return not self.has_numbers and self.label_separator is None


def make_ready(arguments: CsvImagesArguments, config: DataConfig, base: Path) -> DatasetInfo:
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
    names = _names(arguments, tables["train"])
    labels = {which: _labels(arguments, table, names) for which, table in tables.items()}
    facts, survey = describe_tables("csv_images", tables, root, labels, names, arguments, config)
    notes = label_notes(
        tables["train"], names, given=arguments.classes is not None or not arguments.has_classes
    )
    return replace(
        facts,
        notes=(*notes, *facts.notes),
        found=_found(tables["train"], names, survey, arguments),
    )


def _names(arguments: CsvImagesArguments, table: Table) -> tuple[str, ...]:
    """Return the classes, in the order of their indices; none where labels are numbers."""
    if arguments.has_numbers:
        if arguments.classes or arguments.label_separator:
            raise UsageError(
                "data.args: columns of numbers have neither classes nor a label_separator", "leave these out"
            )
        return ()
    if arguments.classes:
        return arguments.classes
    if arguments.label_separator:
        return names_within(table.labels, arguments.label_separator)
    return class_names(table)


def _labels(arguments: CsvImagesArguments, table: Table, names: tuple[str, ...]) -> RowLabels:
    if arguments.has_numbers:
        columns = [arguments.path_column or "path", arguments.label_columns[0]]
        key = "data.args.label_column"
        return number_labels(read_columns(table.file, columns, table.separator, arguments.label_columns, key))
    if arguments.label_separator:
        return multi_labels(table.labels, names, arguments.label_separator)
    return class_labels(table.labels, names)


def _found(
    table: Table, names: tuple[str, ...], survey: ImageSurvey, arguments: CsvImagesArguments
) -> tuple[FoundSetting, ...]:
    """Return the settings that the files have decided."""
    found = {
        "separator": (table.separator, f"in the header of {table.file.name}"),
        "classes": (names, f"the labels of {table.file.name}"),
    }
    if not names:
        del found["classes"]
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
    columns = [arguments.path_column or "path", arguments.label_columns[0]]
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
    columns = [arguments.path_column or "path", arguments.label_columns[0]]
    return np.array(read_columns(file, columns, arguments.separator, [name], f"data.{key}")[0])


SOURCE = DataSource(
    "csv_images",
    "Image files, with paths and labels from a CSV file.",
    CsvImagesArguments,
    make_ready,
    open_images,
    read_images,
    no_inputs,
    column=_column,
    images=image_files,
)

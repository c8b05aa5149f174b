"""``csv``: the columns of numbers of a CSV file, read once per machine and mapped by all ranks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import CacheEntry, array_split_info, cached, entry_key, fingerprint, load_array, save_array
from ..common import DamagedError, UsageError, relative_path_hint
from ..config import DataConfig, DatasetInfo, FoundSetting
from ..sources import (
    CsvFile,
    DataSource,
    argument,
    check_column,
    distinct_names,
    one_character,
    open_csv,
    read_arguments,
    read_column,
    text,
)
from .csv_arrays import ArraysBuilder, Settings
from .number_columns import number_of

_VERSION = 1


def _columns(key: str, value: Any) -> tuple[str, ...] | None:
    """Check one column's name, or a list of names."""
    return None if value is None else distinct_names(key, [value] if isinstance(value, str) else value)


def _one_of(*choices: str) -> Any:
    def check(key: str, value: Any) -> str | None:
        if value is not None and value not in choices:
            raise UsageError(f"data.args.{key}: {value!r} is none of {', '.join(choices)}", "choose one")
        return None if value is None else str(value)

    return check


def _fill(key: str, value: Any) -> str | float | None:
    if value is None:
        return None
    if value == "mean":
        return "mean"
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise UsageError(f"data.args.{key}: {value!r} is neither mean nor a number", "for example 0")
    return float(value)


def _yes_or_no(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"data.args.{key}: {value!r} is neither true nor false", "leave it out for false")
    return value


@dataclass(frozen=True)
class CsvArguments:
    """``data.args`` of ``csv``; relative paths start from the config's folder."""

    train_csv: str | None = text()
    """The CSV file of the training samples, one row for each; it must be given."""
    val_csv: str | None = text()
    """The CSV file of the validation samples; unset: there are none."""
    target: tuple[str, ...] | None = argument(_columns)
    """The column of the target, or several of numbers; it must be given."""
    input: tuple[str, ...] | None = argument(_columns)
    """The columns of the input, numbers all; unset: all but the target and those that `data.weights` and
    `data.group` name."""
    target_type: str | None = argument(_one_of("class", "number"))
    """`class` or `number`; unset: by its values, and said."""
    classes: tuple[str, ...] | None = argument(distinct_names)
    """The classes in the order of their indices; unset: the labels of the training file, numbers in their order."""
    standardize: bool = argument(_yes_or_no, default=False)
    """Whether the mean of each input column is subtracted, and the difference divided by the standard deviation,
    both of the training file."""
    fill_missing: str | float | None = argument(_fill)
    """What stands for missing values of the input: a number, or `mean` for the column's mean in the training file;
    unset: they are an error."""
    separator: str | None = argument(one_character)
    """The character between the fields; unset: the one with which the header names the target."""
    decimal: str | None = argument(_one_of(".", ","), default=".")
    """The character before a fraction: `.` or `,`."""
    dtype: str | None = argument(_one_of("float32", "float64"), default="float32")
    """The type of the inputs, and of targets that are numbers: `float32` or `float64`."""


def make_ready(arguments: CsvArguments, config: DataConfig, base: Path) -> DatasetInfo:
    """Read the files into arrays in the cache, each once for as long as it stays as it is.

    Args:
        arguments: name the files and columns.
        config: the ``data`` section.
        base: the folder that relative paths start from.

    Raises:
        UsageError: an argument is wrong, names a file or a column that is not there, or a column of texts.
        DamagedError: a field is wrong.
    """
    targets = _required(arguments)
    files = {"train": arguments.train_csv, "val": arguments.val_csv}
    tables = {
        which: _open(f"{which}_csv", name, targets, arguments.separator, base)
        for which, name in files.items()
        if which == "train" or name is not None
    }
    settings = Settings(
        inputs=_inputs(tables["train"], arguments, config, targets),
        targets=targets,
        target_type=arguments.target_type or ("class" if arguments.classes else None),
        classes=arguments.classes,
        standardize=arguments.standardize,
        fill=arguments.fill_missing,
        decimal=arguments.decimal or ".",
        dtype=arguments.dtype or "float32",
    )
    _check_columns(tables, settings)
    entry = _arrays(tables, settings)
    return _introduce(entry, tables, settings, arguments)


def _required(arguments: CsvArguments) -> tuple[str, ...]:
    if arguments.target is None:
        raise UsageError("data.args.target is missing", "name the column that is to be predicted")
    if len(arguments.target) > 1 and (arguments.classes or arguments.target_type == "class"):
        raise UsageError("data.args.target: several columns of classes", "name one, or columns of numbers")
    if arguments.classes and arguments.target_type == "number":
        raise UsageError("data.args.classes: the target is a number", "leave out one of them")
    return arguments.target


def _open(key: str, name: str | None, targets: Sequence[str], separator: str | None, base: Path) -> CsvFile:
    if name is None:
        raise UsageError(f"data.args.{key} is missing", "name the CSV file of the training samples")
    file = (base / Path(name).expanduser()).absolute()
    if not file.is_file():
        raise UsageError(f"data.args.{key}: there is no file {file}", relative_path_hint(base))
    csv = open_csv(file, targets, separator)
    if not csv.names:
        raise DamagedError(f"{file} is empty: not a CSV file", "its first line names the columns")
    return csv


def _inputs(
    csv: CsvFile, arguments: CsvArguments, config: DataConfig, targets: Sequence[str]
) -> tuple[str, ...]:
    if arguments.input is not None:
        both = [name for name in arguments.input if name in targets]
        if both:
            raise UsageError(f"data.args.input: {both[0]!r} is the target", "leave it out")
        return arguments.input
    apart = {*targets, config.weights, config.group}
    names = tuple(name for name in csv.names if name not in apart)
    if not names:
        raise UsageError(f"{csv.file} has no column besides the target", "an input needs at least one")
    return names


def _check_columns(tables: dict[str, CsvFile], settings: Settings) -> None:
    for csv in tables.values():
        for key, names in (("target", settings.targets), ("input", settings.inputs)):
            for name in names:
                check_column(csv, name, f"data.args.{key}")


def _arrays(tables: dict[str, CsvFile], settings: Settings) -> CacheEntry:
    """Return the arrays: looked up by the state of the files, and kept by what is in them, as on every node."""
    stamps = [(which, *_stamp(csv)) for which, csv in tables.items()]
    read = cached(
        entry_key("csv_read", _VERSION, stamps, settings.to_json()),
        lambda folder: ArraysBuilder(tables, settings, folder).build(),
    )
    known = [read.hashes, read.facts]
    return cached(entry_key("csv", _VERSION, known), partial(_link, read))


def _stamp(csv: CsvFile) -> tuple[str, str, int, int]:
    """Return what changes when a file does."""
    status = csv.file.stat()
    return str(csv.file), csv.separator, status.st_size, status.st_mtime_ns


def _link(read: CacheEntry, folder: Path) -> dict[str, Any]:
    for name in read.hashes:
        try:
            os.link(read.folder / name, folder / name)
        except OSError:
            shutil.copyfile(read.folder / name, folder / name)
    return read.facts


def _introduce(
    entry: CacheEntry, tables: dict[str, CsvFile], settings: Settings, arguments: CsvArguments
) -> DatasetInfo:
    facts = entry.facts
    names = None if facts["classes"] is None else tuple(facts["classes"])
    classes = None if names is None else len(names)
    return DatasetInfo(
        name="csv",
        kind="arrays",
        train=array_split_info(entry, "train", classes),
        val=array_split_info(entry, "val", classes) if "val" in tables else None,
        input_shape=(len(settings.inputs),),
        input_dtype=settings.dtype,
        classes=classes,
        class_names=names,
        target_shape=(len(settings.targets),) if names is None else (),
        mean=None,
        std=None,
        fingerprint=fingerprint("csv", entry.hashes, names, settings.inputs),
        notes=tuple(facts["notes"]),
        found=_found(tables["train"], names, settings, arguments, facts["why"]),
    )


def _found(
    csv: CsvFile, names: tuple[str, ...] | None, settings: Settings, arguments: CsvArguments, why: str
) -> tuple[FoundSetting, ...]:
    found: dict[str, tuple[Any, str]] = {
        "separator": (csv.separator, f"in the header of {csv.file.name}"),
        "input": (settings.inputs, f"the other columns of {csv.file.name}"),
    }
    if settings.target_type is None:
        found["target_type"] = ("number" if names is None else "class", why)
    if names is not None:
        found["classes"] = (names, f"the labels of {csv.file.name}")
    return tuple(
        FoundSetting(f"data.args.{key}", value, reason)
        for key, (value, reason) in found.items()
        if getattr(arguments, key) is None
    )


def _column(config: DataConfig, base: Path, key: str, name: str | None) -> NDArray[Any] | None:
    """Read one more column of the training file: numbers for ``weights``, else texts."""
    if name is None:
        return None
    arguments = read_arguments("csv", CsvArguments, config.args)
    csv = _open("train_csv", arguments.train_csv, arguments.target or (), arguments.separator, base)
    known = [_stamp(csv), name, arguments.decimal, key == "weights"]

    def build(folder: Path) -> dict[str, Any]:
        found = read_column(csv.file, arguments.target or (), csv.separator, name, f"data.{key}")
        numbers = (
            [number_of(text, arguments.decimal or ".") for text in found] if key == "weights" else [None]
        )
        save_array(folder / "column.npy", np.array(found if None in numbers else numbers))
        return {}

    check_column(csv, name, f"data.{key}")
    return load_array(cached(entry_key("csv_column", _VERSION, known), build).folder / "column.npy")


SOURCE = DataSource(
    "csv",
    "Rows of a CSV file: columns of numbers in, a class or numbers out.",
    CsvArguments,
    make_ready,
    column=_column,
)

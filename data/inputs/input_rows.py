"""From the files and folders that a user names to rows that a model takes; each row keeps its name."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common import DamagedError, UsageError
from ..config import DataConfig, DatasetInfo
from ..images import load_image

_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_TABLES = (".csv", ".jsonl", ".json", ".npy")
_IMAGE_AXES = 3
_COLOURS = {1: "L", 3: "RGB"}
_PATH = "path"
Row = NDArray[Any]


@dataclass(frozen=True)
class InputRows:
    """Rows in the order in which they were given."""

    names: list[str]
    """A file's path, or ``FILE:N`` for the Nth row of a table."""
    readers: list[Callable[[], Row]]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, start: int, stop: int) -> Row:
        """Return rows as one array [rows, ...]."""
        return np.stack([reader() for reader in self.readers[start:stop]])


def find_inputs(sources: Sequence[str], facts: DatasetInfo, config: DataConfig, *, resize: bool) -> InputRows:
    """Find the rows of files, folders of images and tables.

    Args:
        sources: paths.
        facts: of the data set that the model was trained on: what a row has to be.
        config: of the same.
        resize: images of another size than the trained ones are resized; else they are refused.

    Raises:
        UsageError: a path does not exist, or the model takes no such input.
        DamagedError: a row is not what the model takes.
    """
    shape = _expected_shape(facts, config)
    resize = resize or config.args.get("size") is not None
    names: list[str] = []
    readers: list[Callable[[], Row]] = []
    for source in sources:
        for name, reader in _rows_of(Path(source), shape, facts, config, resize=resize):
            names.append(name)
            readers.append(reader)
    return InputRows(names, readers)


def _expected_shape(facts: DatasetInfo, config: DataConfig) -> tuple[int, ...]:
    several = config.pad is not None or config.collate is not None
    if facts.input_shape is None or several:
        what = "are of several lengths" if several else "have inputs that are not a single array"
        raise UsageError(
            f"{facts.name}: its samples {what}: rows of a file cannot be made into them",
            "predict on a split of the data set: --split val; or use lockstep.load_model in Python",
        )
    return facts.input_shape


def _rows_of(
    path: Path, shape: tuple[int, ...], facts: DatasetInfo, config: DataConfig, *, resize: bool
) -> Iterator[tuple[str, Callable[[], Row]]]:
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in _IMAGES)
        if not found:
            raise UsageError(f"{path}: no image in this folder", f"images are {', '.join(_IMAGES)}")
        for file in found:
            yield str(file), _image_reader(file, shape, facts, resize=resize)
    elif not path.is_file():
        raise UsageError(f"{path}: there is no such file", "give files, folders of images, or - for stdin")
    elif path.suffix.lower() in _IMAGES:
        yield str(path), _image_reader(path, shape, facts, resize=resize)
    elif path.suffix.lower() == ".npy":
        yield from _array_rows(path, shape, facts)
    elif path.suffix.lower() in (".jsonl", ".json"):
        yield from _json_rows(path, shape, facts)
    elif path.suffix.lower() == ".csv":
        yield from _csv_rows(path, shape, facts, config, resize=resize)
    else:
        raise UsageError(
            f"{path}: not a kind of file that is read", f"use one of {', '.join((*_IMAGES, *_TABLES))}"
        )


def _image_reader(
    path: Path, shape: tuple[int, ...], facts: DatasetInfo, *, resize: bool
) -> Callable[[], Row]:
    if len(shape) != _IMAGE_AXES or shape[0] not in _COLOURS or facts.input_dtype != "uint8":
        raise UsageError(
            f"{path}: an image, but the model takes {facts.input_dtype} {list(shape)}",
            "give rows of numbers: a .csv, .jsonl or .npy file",
        )
    return partial(load_image, path, _COLOURS[shape[0]], (shape[1], shape[2]), resize=resize)


def _array_rows(
    path: Path, shape: tuple[int, ...], facts: DatasetInfo
) -> Iterator[tuple[str, Callable[[], Row]]]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path}: not a NumPy array: {error}", "write it with numpy.save") from error
    rows = array[None] if array.shape == shape else array
    for number, row in enumerate(rows):
        name = f"{path}:{number + 1}"
        yield name, partial(lambda value: value, _as_input(name, row, shape, facts))


def _json_rows(
    path: Path, shape: tuple[int, ...], facts: DatasetInfo
) -> Iterator[tuple[str, Callable[[], Row]]]:
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line.strip():
            name = f"{path}:{number}"
            try:
                value = np.asarray(json.loads(line))
            except ValueError as error:  # ragged lists are one, too
                raise DamagedError(
                    f"{name}: not a JSON array of numbers: {error}", "each line is one input, as [0.5, 1.25]"
                ) from error
            yield name, partial(lambda value: value, _as_input(name, value, shape, facts))


def _csv_rows(
    path: Path, shape: tuple[int, ...], facts: DatasetInfo, config: DataConfig, *, resize: bool
) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Read images by a column of paths, which are relative to the file, else numbers, with or without a header."""
    rows = [row for row in csv.reader(io.StringIO(_text(path))) if any(cell.strip() for cell in row)]
    header = [cell.strip() for cell in rows[0]] if rows else []
    column = config.args.get("path_column") or _PATH
    if column in header:
        place = header.index(column)
        for number, row in enumerate(rows[1:], start=2):
            if place >= len(row):
                raise DamagedError(f"{path}:{number}: this row has no {column}", "correct it")
            file = path.parent / row[place].strip()
            if not file.is_file():
                raise DamagedError(
                    f"{path}:{number}: {file}: there is no such file", "paths are relative to the CSV file"
                )
            yield str(file), _image_reader(file, shape, facts, resize=resize)
        return
    first = 1 if rows and _numbers(rows[0]) is None else 0
    for number, row in enumerate(rows[first:], start=first + 1):
        name = f"{path}:{number}"
        values = _numbers(row)
        if values is None:
            raise DamagedError(
                f"{name}: not a row of numbers, and there is no column {column!r} of image paths",
                f"the model takes {math.prod(shape)} numbers in a row",
            )
        yield name, partial(lambda value: value, _as_input(name, np.asarray(values), shape, facts))


def _numbers(row: Sequence[str]) -> list[float] | None:
    try:
        return [float(cell) for cell in row]
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeError as error:
        raise DamagedError(f"{path}: not UTF-8: {error}", "save it as UTF-8") from error


def _as_input(name: str, value: Row, shape: tuple[int, ...], facts: DatasetInfo) -> Row:
    """Give a row the shape and the type of an input that the model was trained on, without losing anything."""
    if value.dtype.kind not in "buif" or (value.shape != shape and value.size != math.prod(shape)):
        what = f"{value.size} numbers" if value.dtype.kind in "buif" else "something else than numbers"
        raise DamagedError(
            f"{name}: {what}, but the model takes {math.prod(shape)}: {facts.input_dtype} {list(shape)}",
            "give it as the training data has it",
        )
    wanted = np.dtype(facts.input_dtype if facts.input_dtype != "bfloat16" else "float32")
    with np.errstate(invalid="ignore", over="ignore"):
        made = value.reshape(shape).astype(wanted)
    if wanted.kind in "bui" and not np.array_equal(made, value.reshape(shape)):
        raise DamagedError(
            f"{name}: a number is no {facts.input_dtype}", "give it as the training data has it"
        )
    return made

"""``csv_images``: image files and labels from a CSV that pandas reads; every row is checked beforehand."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import stat
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common import DamagedError, UsageError, meant, relative_path_hint
from ..config import DataConfig, DatasetInfo, SplitInfo
from .arguments import normalisation, refuse_unknown_arguments, text
from .array_cache import CacheEntry, cached, class_counts, entry_key, fingerprint, load_array, save_array
from .image_files import probe

KNOWN = (
    *("root", "train_csv", "val_csv", "path_column", "label_column"),
    *("classes", "size", "mode", "mean", "std"),
)
_VERSION = 1
_SHOWN = 3  # bad rows that a message quotes
_MAX_LISTED_NAMES = 20  # names that a message lists


@dataclass(frozen=True)
class Table:
    """The two columns of a CSV."""

    file: Path
    paths: list[str]
    labels: list[str]


def describe(config: DataConfig, base: Path) -> DatasetInfo:
    """The data set that CSV files describe, every row of it checked.

    Args:
        config: ``args`` as in ``KNOWN``; ``size`` is [H, W], and ``mode`` is ``L`` or ``RGB``.
        base: what relative paths in the config are relative to.

    Raises:
        UsageError: an argument is wrong, or a file it names is not there.
        DamagedError: a row of a CSV is wrong, or the first image cannot be read.
    """
    args = config.args
    refuse_unknown_arguments("csv_images", args, KNOWN)
    root = _folder(args, base)
    tables = {which: _read(args, base, f"{which}_csv") for which in ("train", "val") if _given(args, which)}
    names = _class_names(args, tables["train"])
    entry = _store(tables, root, names)
    mode, size = _look(args, tables["train"], root)
    mean, std = normalisation(args, len(mode))
    shape = (len(mode), *size)
    return DatasetInfo(
        name="csv_images",
        kind="images",
        train=_split_facts(entry, "train", len(names)),
        val=_split_facts(entry, "val", len(names)) if "val" in tables else None,
        input_shape=shape,
        input_dtype="uint8",
        classes=len(names),
        class_names=names,
        target_shape=(),
        mean=mean,
        std=std,
        image_root=str(root),
        fingerprint=fingerprint("csv_images", entry.hashes, names, shape, mean, std),
    )


def _given(args: dict[str, Any], which: str) -> bool:
    return which == "train" or args.get("val_csv") is not None


def _folder(args: dict[str, Any], base: Path) -> Path:
    root = (base / Path(text(args, "root", ".") or ".").expanduser()).resolve()
    if not root.is_dir():
        raise UsageError(f"data.args.root: there is no folder {root}", relative_path_hint(base))
    return root


def _read(args: dict[str, Any], base: Path, key: str) -> Table:
    name = text(args, key)
    if name is None:
        raise UsageError(f"data.args.{key} is missing", "name the CSV file that lists images and labels")
    file = (base / Path(name).expanduser()).absolute()
    if not file.is_file():
        raise UsageError(f"data.args.{key}: there is no file {file}", relative_path_hint(base))
    columns = [text(args, f"{role}_column", role) or role for role in ("path", "label")]
    frame = _parse(file, columns)
    table = Table(file, *(frame[column].tolist() for column in columns))
    if not table.paths:
        raise DamagedError(f"{file} has no rows", "each line names an image and its label")
    return table


def _parse(file: Path, columns: Sequence[str]) -> Any:
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            # Not usecols, with which pandas drops surplus fields without a word.
            frame = pd.read_csv(file, dtype=str, na_filter=False, index_col=False, encoding="utf-8-sig")
    except pd.errors.ParserWarning as error:
        raise _csv_error(file, "line 2 has more fields than line 1") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError) as error:
        reason = str(error).replace("Error tokenizing data. C error: ", "").strip()
        raise _csv_error(file, re.sub(r"row (\d+)", lambda row: f"line {int(row[1]) + 1}", reason)) from error
    for role, column in zip(("path", "label"), columns, strict=True):
        if column not in frame.columns:
            raise _missing_column_error(file, role, column, list(frame.columns))
    return frame


def _csv_error(file: Path, reason: str) -> DamagedError:
    return DamagedError(f"{file}: not a CSV file in UTF-8: {reason}", "correct that line")


def _missing_column_error(file: Path, role: str, column: str, header: list[str]) -> UsageError:
    return UsageError(
        f"{file} has no column {column!r}{meant(column, header)}",
        f"its columns are {', '.join(header[:_MAX_LISTED_NAMES])}; name one in data.args.{role}_column",
    )


def _class_names(args: dict[str, Any], train: Table) -> tuple[str, ...]:
    given = args.get("classes")
    if given is not None:
        return _given_classes(given)
    names = sorted(set(train.labels) - {""})
    numbers = [_number(name) for name in names]
    if not names or any(number is None for number in numbers):
        return tuple(names)
    whole = [number for number in numbers if number is not None]
    return tuple(str(number) for number in range(max(*whole, 0) + 1))


def _given_classes(given: Any) -> tuple[str, ...]:
    names = tuple(str(name) for name in given) if isinstance(given, list | tuple) else ()
    if not names or len(set(names)) != len(names) or "" in names:
        raise UsageError(
            f"data.args.classes: {given!r} is no list of distinct names", "list every class once"
        )
    return names


def _number(label: str) -> int | None:
    """A label that is a plain whole number: ``3``, ``-1``, not ``03`` nor ``3.0``."""
    digits = label.removeprefix("-")
    plain = digits.isascii() and digits.isdigit() and len(digits) < 10  # noqa: PLR2004 - 10^9 is no class
    return int(label) if plain and str(int(label)) == label else None


def _store(tables: dict[str, Table], root: Path, names: tuple[str, ...]) -> CacheEntry:
    """Rows as arrays: a Python list of a million strings would be copied into every worker, page by page."""
    arrays: dict[str, NDArray[Any]] = {}
    for which, table in tables.items():
        arrays |= {f"{which}_{role}": array for role, array in _columns(table, root, names).items()}
    digest = {name: hashlib.sha256(array.data).hexdigest() for name, array in arrays.items()}

    def build(folder: Path) -> dict[str, Any]:
        for name, array in arrays.items():
            save_array(folder / f"{name}.npy", array)
        return {}

    return cached(entry_key("csv_images", _VERSION, digest), build)


def _columns(table: Table, root: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    index = {name: number for number, name in enumerate(names)}
    sizes = np.zeros(len(table.paths), np.int64)
    bad: list[tuple[int, str]] = []
    folders = _PathChecker(root)
    for row, (path, label) in enumerate(zip(table.paths, table.labels, strict=True)):
        problem = _label_problem(label, index)
        if problem is None:
            problem, sizes[row] = folders.check(path)
        if problem is not None:
            bad.append((row, problem))
    if bad:
        raise _bad_rows_error(table, bad)
    blobs = [path.encode() for path in table.paths]
    return {
        "paths": np.frombuffer(b"".join(blobs), np.uint8),
        "offsets": np.cumsum([0, *map(len, blobs)], dtype=np.int64),
        "bytes": sizes,  # not read again: a replaced image should change the fingerprint
        "y": np.array([index[label] for label in table.labels], np.int64),
    }


def _label_problem(label: str, index: dict[str, int]) -> str | None:
    if not label:
        return "the label is empty"
    if label in index:
        return None
    if (_number(label) or 0) < 0:
        return f"the label {label} is negative"
    return f"{label!r} is none of the classes {', '.join(list(index)[:_MAX_LISTED_NAMES])}"


class _PathChecker:
    """Checks paths below ``root``; each folder is resolved once, so that a row costs one ``lstat``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._inside: dict[str, bool] = {}

    def check(self, path: str) -> tuple[str | None, int]:
        """What is wrong with ``path``, or None, and the size of the file in bytes."""
        if not path:
            return "the path is empty", 0
        if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in path):  # noqa: PLR2004 - C0, DEL, C1
            return f"the path {path!r} has control characters", 0
        if path.startswith("/"):
            return f"{path!r} is absolute", 0
        return self._look(path)

    def _look(self, path: str) -> tuple[str | None, int]:
        parent, _, name = path.rpartition("/")
        if name in ("", ".", "..") or not self._is_inside(parent):
            return f"{path!r} leads outside {self._root}", 0
        full = f"{self._root}/{path}"
        try:
            status = os.lstat(full)
            if stat.S_ISLNK(status.st_mode):
                if not self._contains(os.path.realpath(full)):
                    return f"{path!r} leads outside {self._root}", 0
                status = os.stat(full)  # noqa: PTH116 - a million rows; Path costs ten times as much
        except OSError as error:
            return f"{path!r}: {error.strerror}", 0
        return (None if stat.S_ISREG(status.st_mode) else f"{path!r} is no file"), status.st_size

    def _is_inside(self, parent: str) -> bool:
        if parent not in self._inside:
            self._inside[parent] = self._contains(os.path.realpath(f"{self._root}/{parent}"))
        return self._inside[parent]

    def _contains(self, resolved: str) -> bool:
        return Path(resolved).is_relative_to(self._root)


def _bad_rows_error(table: Table, bad: list[tuple[int, str]]) -> DamagedError:
    lines = dict(zip(range(bad[min(len(bad), _SHOWN) - 1][0] + 1), _line_numbers(table.file), strict=False))
    shown = [f"{table.file}:{lines.get(row, row + 2)}: {problem}" for row, problem in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        shown.append(f"and {len(bad) - _SHOWN} more bad rows")
    return DamagedError("\n".join(shown), "correct these rows, or remove them")


def _line_numbers(file: Path) -> Iterator[int]:
    """The line on which each data row starts; pandas skips empty lines and quoted fields may span several."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream)
        start = 1
        header = True
        for row in reader:
            if row and not (len(row) == 1 and not row[0].strip()):
                if not header:
                    yield start
                header = False
            start = reader.line_num + 1


def _look(args: dict[str, Any], train: Table, root: Path) -> tuple[str, tuple[int, int]]:
    """Mode and (height, width) of the images: as given, else the first one's."""
    mode, size = args.get("mode"), args.get("size")
    if mode not in (None, "L", "RGB"):
        raise UsageError(f"data.args.mode: {mode!r} is neither L nor RGB", "L is grey, RGB is colour")
    if size is not None and not _is_size(size):
        raise UsageError(
            f"data.args.size: {size!r} is not [height, width] in pixels", "for example [224, 224]"
        )
    first_mode, first_size = probe(root / train.paths[0])
    return mode or first_mode, tuple(size) if size is not None else first_size


def _is_size(size: Any) -> bool:
    pair = isinstance(size, list | tuple) and len(size) == 2  # noqa: PLR2004 - height and width
    return pair and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in size)


def _split_facts(entry: CacheEntry, which: str, classes: int) -> SplitInfo:
    files = {role: str(entry.folder / f"{which}_{role}.npy") for role in ("paths", "offsets", "y")}
    targets = load_array(files["y"])
    return SplitInfo(len(targets), files, class_counts=class_counts(targets, classes))

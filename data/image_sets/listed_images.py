"""Images that a list names, each with its label: every row is checked beforehand, and kept as arrays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..bad_samples import known_notes, most_bad, too_many_error, write_rows
from ..cache import CacheEntry, cached, class_counts, entry_key, fingerprint, load_array, save_array
from ..config import DataConfig, DatasetInfo, FoundSetting, SplitInfo
from ..images import ImageSettings, ImageSplit, PathChecker, StoredImages
from ..sources import (
    ArraySplit,
    ImageArguments,
    MapSplit,
    PreparedSplit,
    Reader,
    Table,
    argument,
    colour_mode,
    distinct_names,
    height_and_width,
    known_bad,
    open_arrays,
)
from .duplicate_rows import FileRows, duplicate_notes
from .image_survey import ImageSurvey, survey_images
from .row_labels import RowLabels

if TYPE_CHECKING:
    import torch


_VERSION = 2


_SURVEY_VERSION = 3


@dataclass(frozen=True)
class ListedImages(ImageArguments):
    """The arguments that every list of images takes."""

    classes: tuple[str, ...] | None = argument(distinct_names)
    """The classes in the order of their indices; unset: those of the training samples."""
    size: tuple[int, int] | None = argument(height_and_width)
    """Height and width in pixels that every image is resized to; unset: all have one size, and another is an error."""
    mode: str | None = argument(colour_mode)
    """``L`` or ``RGB``; unset: grey where every image is, else colour."""


def describe_tables(
    name: str,
    tables: dict[str, Table],
    root: Path,
    labels: dict[str, RowLabels],
    names: tuple[str, ...],
    arguments: ListedImages,
    config: DataConfig,
) -> tuple[DatasetInfo, ImageSurvey]:
    """Check every row of lists of images, look at the images, and keep paths and labels as arrays in the cache.

    Args:
        name: of the source.
        tables: split to its rows.
        root: the folder that their paths start from.
        labels: of each split.
        names: of the classes; none where labels are numbers.
        arguments: of the images.
        config: the ``data`` section.

    Raises:
        DamagedError: a row is wrong, or an image that was looked at cannot be read.
    """
    columns = _check_rows(tables, root, labels, config)
    one_size, skip = arguments.size is None, config.on_bad == "skip"
    survey = _survey(tables, root, columns, one_size=one_size, skip=skip)
    entry = _cache_columns(columns)
    mode, size = arguments.mode or survey.mode, arguments.size or survey.size
    mean, std = arguments.normalisation(len(mode))
    shape = (len(mode), *size)
    classes = len(names) if labels["train"].are_classes else None
    infos = {which: _split_info(entry, which, columns, classes) for which in tables}
    notes = _notes(tables, columns, names, split_off=bool(config.val_size))
    return DatasetInfo(
        name=name,
        kind="images",
        train=infos["train"],
        val=infos.get("val"),
        input_shape=shape,
        input_dtype="uint8",
        classes=classes,
        class_names=None if classes is None else names,
        target_shape=labels["train"].values.shape[1:],
        mean=mean,
        std=std,
        image_root=str(root),
        fingerprint=fingerprint(name, _contents(entry, columns), names, shape, mean, std, *survey.identity),
        notes=notes + survey.notes(mode_given=arguments.mode is not None, size=size),
    ), survey


def _check_rows(
    tables: dict[str, Table], root: Path, labels: dict[str, RowLabels], config: DataConfig
) -> dict[str, _Columns]:
    skip = config.max_bad if config.on_bad == "skip" else None
    return {which: _build_columns(which, table, root, labels[which], skip) for which, table in tables.items()}


def _notes(
    tables: dict[str, Table],
    columns: dict[str, _Columns],
    names: tuple[str, ...],
    *,
    split_off: bool,
) -> tuple[str, ...]:
    rows = {which: _file_rows(table, columns[which]) for which, table in tables.items()}
    bad = [
        note
        for which, table in tables.items()
        for note in known_notes(which, len(table.paths), columns[which].bad)
    ]
    return (
        *duplicate_notes(rows["train"], rows.get("val"), names, split_off=split_off),
        *bad,
    )


def found_settings(
    more: dict[str, tuple[Any, str]], survey: ImageSurvey, arguments: ListedImages
) -> tuple[FoundSetting, ...]:
    """Return the settings that were left out, and that ``more`` and the images have decided."""
    found = {
        **more,
        "mode": (
            survey.mode,
            f"{survey.looked_at - survey.grey:,} of {survey.looked_at:,} images are in colour",
        ),
        "size": (survey.size, f"of all images that were looked at: {survey.looked_at:,}"),
    }
    return tuple(
        FoundSetting(f"data.args.{key}", value, why)
        for key, (value, why) in found.items()
        if getattr(arguments, key) is None
    )


def _file_rows(table: Table, columns: _Columns) -> FileRows:
    y = columns.arrays["y"]
    classes = y if y.ndim == 1 else np.zeros(len(y), np.int64)  # others are not compared
    if not columns.bad:
        return FileRows(columns.files, classes, table.paths)
    good = np.delete(np.arange(len(table.paths)), list(columns.bad))
    return FileRows(columns.files[good], classes[good], [table.paths[row] for row in good.tolist()])


def _survey(
    tables: dict[str, Table], root: Path, columns: dict[str, _Columns], *, one_size: bool, skip: bool
) -> ImageSurvey:
    """Look at the images, once for each state that they are in: a file that was changed in place has another time."""
    parts = [[_digest(column.arrays[role]) for role in ("paths", "bytes")] for column in columns.values()]
    times = [_digest(column.times) for column in columns.values()]

    leave_out = {which: frozenset(column.bad) for which, column in columns.items()} if skip else None

    def build(_: Path) -> dict[str, Any]:
        return survey_images(tables, root, one_size=one_size, leave_out=leave_out).to_json()

    known = [_SURVEY_VERSION, parts, times, one_size, *(["skip"] if skip else [])]
    return ImageSurvey.from_json(cached(entry_key("image_survey", *known), build).facts)


def _cache_columns(columns: dict[str, _Columns]) -> CacheEntry:
    """Keep rows as arrays: a Python list of a million strings would be copied into every worker, page by page."""
    arrays = {
        f"{which}_{role}": array for which, column in columns.items() for role, array in column.arrays.items()
    }

    bad = {which: column.bad for which, column in columns.items() if column.bad}

    def build(folder: Path) -> dict[str, Any]:
        for name, array in arrays.items():
            save_array(folder / f"{name}.npy", array)
        for which, rows in bad.items():
            write_rows(folder / f"{which}_bad.json", rows)
        return {}

    digest = {name: _digest(array) for name, array in arrays.items()}
    return cached(entry_key("csv_images", _VERSION, digest, *([bad] if bad else [])), build)


def _contents(entry: CacheEntry, columns: dict[str, _Columns]) -> dict[str, Any]:
    """Return what the rows are; not why some are bad, for that names the place where the files lie."""
    arrays = {file: digest for file, digest in entry.hashes.items() if file.endswith(".npy")}
    bad = {f"{which}_bad": sorted(column.bad) for which, column in columns.items() if column.bad}
    return arrays | bad


def _digest(array: NDArray[Any]) -> str:
    return hashlib.sha256(array.data).hexdigest()


@dataclass(frozen=True)
class _Columns:
    """The rows of a split as arrays."""

    arrays: dict[str, NDArray[Any]]
    times: NDArray[np.int64]
    """When each file was changed, in nanoseconds since 1970; no part of the fingerprint, for a copy has others."""
    files: NDArray[np.uint64]
    """A number for each row's file."""
    bad: dict[int, str]
    """Rows that are skipped, and why: they have no path, and label 0 where theirs is none."""


def _build_columns(which: str, table: Table, root: Path, labels: RowLabels, skip: float | None) -> _Columns:
    """Check the rows of a split; ``skip`` is how many may be bad, None: none.

    Raises:
        DamagedError: more are.
    """
    sizes, times = np.zeros((2, len(table.paths)), np.int64)
    files = np.zeros(len(table.paths), np.uint64)
    bad: list[tuple[int, str]] = []
    folders = PathChecker(root)
    for row, path in enumerate(table.paths):
        problem = labels.problems.get(row)
        if problem is None:
            problem, sizes[row], times[row], files[row] = folders.check(path)
        if problem is not None:
            bad.append((row, problem))
    named = _skipped(which, table, bad, skip) if bad else {}
    blobs = [b"" if row in named else path.encode() for row, path in enumerate(table.paths)]
    arrays: dict[str, NDArray[Any]] = {
        "paths": np.frombuffer(b"".join(blobs), np.uint8),
        "offsets": np.cumsum([0, *map(len, blobs)], dtype=np.int64),
        "bytes": sizes,  # not read again: a replaced image should change the fingerprint
        "y": labels.values,
    }
    return _Columns(arrays, times, files, named)


def _skipped(which: str, table: Table, bad: list[tuple[int, str]], skip: float | None) -> dict[int, str]:
    """Return the bad rows with their lines, where there may be so many."""
    if skip is None:
        raise table.bad_rows_error(bad)
    named = table.named_rows(bad)
    if len(bad) > (most := most_bad(skip, len(table.paths))):
        raise too_many_error(which, len(table.paths), most, named)
    return named


def _split_info(
    entry: CacheEntry, which: str, columns: dict[str, _Columns], classes: int | None
) -> SplitInfo:
    files = {role: str(entry.folder / f"{which}_{role}.npy") for role in ("paths", "offsets", "y")}
    targets = load_array(files["y"])
    arrays, times = columns[which].arrays, columns[which].times
    state = fingerprint(
        [_digest(array) for array in (arrays["paths"], arrays["offsets"], arrays["bytes"], times)]
    )
    if bad := columns[which].bad:
        files["bad"] = str(entry.folder / f"{which}_bad.json")
    good = np.delete(targets, list(bad), axis=0)
    return SplitInfo(len(targets), files, state=state, class_counts=class_counts(good, classes))


def _settings(split: PreparedSplit) -> ImageSettings:
    """Collect what decides which pixels the images of a split become."""
    files, facts, args = split.info.files, split.facts, split.config.args
    channels, height, width = facts.input_shape or (3, 0, 0)
    mode = "L" if channels == 1 else "RGB"
    which = "val" if split.which == "val" and split.subset is None else "train"
    return ImageSettings(
        root=facts.image_root or "",
        mode=mode,
        size=(height, width),
        resize=args.get("size") is not None,
        may_be_colour=mode == "RGB" or args.get("mode") is not None,
        paths=files["paths"],
        offsets=files["offsets"],
        listed_in=str(args.get(f"{which}_csv") or args.get(which)),
        bad=split.info.files.get("bad"),
    )


def image_files(split: PreparedSplit) -> ImageSplit:
    """Describe the image files of a split."""
    skip = split.config.max_bad if split.config.on_bad == "skip" else None
    rows = len(load_array(split.info.files["y"]))
    return ImageSplit(_settings(split), rows, split.info.state, skip, split.which)


class CsvImageDataset:
    """The images of a split: a sample is uint8 [C, H, W], and a class index, int64 [], or numbers, float32 [k]."""

    def __init__(self, split: PreparedSplit) -> None:
        self._images = StoredImages(_settings(split))
        self._targets = load_array(split.info.files["y"])

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        image, label = self.read(row)
        return torch.from_numpy(image), torch.tensor(label)

    def read(self, row: int) -> tuple[NDArray[np.uint8], Any]:
        """Read a sample without torch."""
        label = self._targets[row]
        return self._images.load(row), label.copy() if label.ndim else int(label)


def open_images(split: PreparedSplit) -> ArraySplit | MapSplit:
    """Open the decoded images of the cache, else the files."""
    if "x" in split.info.files:
        return open_arrays(split)
    return MapSplit(CsvImageDataset(split), split.subset, bad=known_bad(split))


def read_images(split: PreparedSplit) -> Reader:
    """Return what reads single samples, without torch."""
    dataset = CsvImageDataset(split)
    return len(dataset), dataset.read

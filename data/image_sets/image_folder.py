"""``image_folder``: image files in folders that are named like their classes, as torchvision's ``ImageFolder``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..common import UsageError, relative_path_hint
from ..config import DataConfig, DatasetInfo
from ..sources import IMAGE_SUFFIXES, DataSource, Table, no_inputs, text
from .listed_images import (
    ListedImages,
    describe_tables,
    found_settings,
    image_files,
    open_images,
    read_images,
)
from .row_labels import class_labels

_SPLITS = ("train", "val")


@dataclass(frozen=True)
class ImageFolderArguments(ListedImages):
    """``data.args`` of ``image_folder``; relative paths start from the config's folder."""

    train: str | None = text()
    """The folder of the training samples, with one folder for each class; it must be given."""
    val: str | None = text()
    """The folder of the validation samples, with the same classes; unset: there are none."""


@dataclass(frozen=True)
class _Listing(Table):
    """The files below a folder, by class and name."""

    left_out: int = 0
    """Files that are not images by their names."""

    def named_rows(self, bad: Sequence[tuple[int, str]]) -> dict[int, str]:
        """Say of each bad file what is wrong."""
        return {row: f"{self.file}: {problem}" for row, problem in bad}


def make_ready(arguments: ImageFolderArguments, config: DataConfig, base: Path) -> DatasetInfo:
    """List the files, and describe them as ``csv_images`` does those of a table.

    Raises:
        UsageError: an argument is wrong, or there are no classes.
        DamagedError: a file is bad.
    """
    folders = {
        which: _folder(which, name, base)
        for which in _SPLITS
        if (name := getattr(arguments, which)) is not None or which == "train"
    }
    root = Path(os.path.commonpath(list(folders.values())))
    tables: dict[str, Table] = {which: _listing(folder, root) for which, folder in folders.items()}
    if arguments.classes is None:
        _refuse_empty_classes(folders["train"], tables["train"])
    names = arguments.classes or tuple(sorted(set(tables["train"].labels)))
    labels = {which: class_labels(table.labels, names) for which, table in tables.items()}
    facts, survey = describe_tables("image_folder", tables, root, labels, names, arguments, config)
    found = {"classes": (names, f"the folders in {folders['train'].name}")}
    notes = [
        f"{table.left_out:,} {'file' if table.left_out == 1 else 'files'} in {table.file}"
        f" {'is not an image by its name and' if table.left_out == 1 else 'are not images by their names and'} left out"
        for table in tables.values()
        if isinstance(table, _Listing) and table.left_out
    ]
    return replace(facts, notes=(*notes, *facts.notes), found=found_settings(found, survey, arguments))


def _folder(which: str, name: str | None, base: Path) -> Path:
    if name is None:
        raise UsageError(
            f"data.args.{which} is missing", "name the folder that has one folder for each class"
        )
    folder = (base / Path(name).expanduser()).resolve()
    if not folder.is_dir():
        raise UsageError(f"data.args.{which}: there is no folder {folder}", relative_path_hint(base))
    return folder


def _listing(folder: Path, root: Path) -> _Listing:
    """List the images of each class, in the order of their names.

    Raises:
        UsageError: there are none.
    """
    paths, labels, left_out = [], [], 0
    for name in _class_folders(folder):
        for place, files in _walk(folder / name):
            images = sorted(file for file in files if file.lower().endswith(IMAGE_SUFFIXES))
            paths += [os.path.relpath(f"{place}/{file}", root) for file in images]
            labels += [name] * len(images)
            left_out += len(files) - len(images)
    if not paths:
        raise UsageError(
            f"{folder} has no folders with images: {', '.join(IMAGE_SUFFIXES)}",
            "make one folder for each class",
        )
    return _Listing(folder, ",", False, (), paths, labels, left_out)  # noqa: FBT003 - no table of text


def _class_folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder below one and its files; links to folders are followed, each folder once."""
    seen: set[tuple[int, int]] = set()
    for place, within, files in os.walk(folder, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            within.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        within.sort()
        yield place, files


def _refuse_empty_classes(folder: Path, table: Table) -> None:
    """Refuse a class without an image, which would give the classes behind it other numbers."""
    empty = [name for name in _class_folders(folder) if name not in set(table.labels)]
    if empty:
        raise UsageError(
            f"data.args.train: {folder / empty[0]} has no images, and {len(empty) - 1} more folders have none"
            if empty[1:]
            else f"data.args.train: {folder / empty[0]} has no images",
            "remove the folder, or list the classes in data.args.classes",
        )


SOURCE = DataSource(
    "image_folder",
    "Image files in folders that are named like their classes.",
    ImageFolderArguments,
    make_ready,
    open_images,
    read_images,
    no_inputs,
    images=image_files,
)

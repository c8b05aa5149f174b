"""A set of image files whose decoded pixels are kept in the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..bad_samples import known_notes, known_rows
from ..common import UsageError
from ..config import DataConfig, DatasetInfo, SplitInfo
from ..images import BAD, ImageSplit, decode_splits
from .source_list import image_split


def with_decoded_images(
    facts: DatasetInfo, config: DataConfig, base: Path, report: Callable[[str, str], None], *, build: bool
) -> DatasetInfo:
    """Add to each split of image files the file of its decoded pixels, and say how samples are read.

    Args:
        facts: with the splits as they will be trained on.
        config: the ``data`` section.
        base: the folder of the config file.
        report: called with how far the decoding is.
        build: decode what is missing; else decoded images are used where they are there already.

    Raises:
        UsageError: a cache is asked for, and the samples are not image files.
        DamagedError: an image cannot be read.
        MachineError: a cache is asked for, and cannot be had.
    """
    names = [name for name in ("train", "val", *facts.others) if facts.split(name) is not None]
    splits = [found for name in names if (found := image_split(facts, name, config, base)) is not None]
    if not splits:
        if config.cache == "on":
            raise UsageError(
                f"data.cache: {config.use} is not a set of image files",
                "leave it out: there is nothing to decode",
            )
        return facts
    decoded = decode_splits(splits, config.cache, report, build=build)
    files = dict(zip(names, decoded.files, strict=False))
    bad = [
        note for split, file in zip(splits, decoded.files, strict=False) for note in _bad_notes(split, file)
    ]
    others = {name: _with_file(split, files.get(name)) for name, split in facts.others.items()}
    return replace(
        facts,
        train=_with_file(facts.train, files.get("train")),
        val=None if facts.val is None else _with_file(facts.val, files.get("val")),
        others=others,
        notes=(*facts.notes, *dict.fromkeys(bad)),
        reading=decoded.told,
    )


def _bad_notes(split: ImageSplit, file: Path) -> list[str]:
    """Say which images were found to be bad when they were decoded; the others are known already."""
    before = known_rows(split.settings.bad)
    found = {row: why for row, why in known_rows(file.with_name(BAD)).items() if row not in before}
    return known_notes(Path(split.settings.listed_in).name, split.rows, found)


def _with_file(split: SplitInfo, file: Path | None) -> SplitInfo:
    if file is None:
        return split
    bad = file.with_name(BAD)
    more = {"bad": str(bad)} if bad.exists() else {}
    return replace(split, files={**split.files, "x": str(file), **more})

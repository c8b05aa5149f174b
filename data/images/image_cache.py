"""The cache of decoded images: one file for each split, decoded once per machine and mapped by all of its processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..bad_samples import known_rows, most_bad, too_many_error, write_rows
from ..cache import (
    CacheEntry,
    allocated_bytes,
    cache_root,
    cached,
    entry_key,
    find_entry,
    format_bytes,
    free_bytes,
    memory_bytes,
    partial_folder,
)
from ..common import DamagedError, MachineError
from .decode_processes import decode_chunks
from .decoded_file import PIXELS, ChunkRecord, DecodedFile
from .image_split import ImageSplit
from .stored_images import StoredImages

BAD = "bad.json"
"""The rows whose images cannot be read, and why, where there are any."""
_SHARE = 0.5
"""Of the free disk, and of the memory, that is taken where nobody has asked for the cache."""
_NAMED = 3  # bad images in a message
_SAY_SECONDS = 0.5
Report = Callable[[str, str], None]
"""Is told now and then what is done, and how far it is."""


@dataclass(frozen=True)
class DecodedSplits:
    """The decoded images of a set, or the reason for which there are none."""

    files: tuple[Path, ...]
    """One ``.npy`` file for each split, in the order in which they were asked for."""
    told: str
    """How the images are read, for users."""


def decode_splits(
    splits: Sequence[ImageSplit], asked: Literal["auto", "on", "off"], report: Report, *, build: bool
) -> DecodedSplits:
    """Find the decoded images of a set, or decode them.

    Args:
        splits: of the set.
        asked: ``data.cache``.
        report: called with how far it is.
        build: decode what is missing; else the files are used only if all of them are there.

    Raises:
        DamagedError: an image cannot be read.
        MachineError: it was asked for, and there is no room, or the cache cannot be written.
    """
    if asked == "off":
        return _none("data.cache=off")
    distinct = list({entry_of(split): split for split in splits}.values())
    size = format_bytes(sum(split.bytes for split in distinct))
    missing = [split for split in distinct if find_entry(entry_of(split)) is None]
    needed = sum(max(0, split.bytes - allocated_bytes(partial_folder(entry_of(split)))) for split in missing)
    why_not = _why_no_room(needed, asked)
    if why_not and asked == "on":
        raise MachineError(
            f"data.cache: {why_not}",
            "set LOCKSTEP_CACHE to a folder with room, make room (`launch cache`), choose a smaller data.args.size,"
            " or data.cache=off",
        )
    if why_not:
        return _none(why_not)
    if missing and not build:
        return DecodedSplits((), f"images: a training decodes them once, into {size} of the cache")
    try:
        folders = [_decoded(split, report).folder for split in splits]
        for split, folder in zip(splits, folders, strict=True):
            _refuse_bad(split, known_rows(folder / BAD))
        files = tuple(folder / PIXELS for folder in folders)
    except MachineError as error:
        if asked == "on":
            raise
        return _none(error.message)
    return DecodedSplits(
        files, f"images: decoded once, {size} of the cache that all processes of a machine share"
    )


def _none(why: str) -> DecodedSplits:
    return DecodedSplits((), f"images: decoded anew in every epoch: {why}")


def _why_no_room(needed: int, asked: str) -> str:
    """Report why decoded images of that size are not kept; empty where they are."""
    share = 1.0 if asked == "on" else _SHARE
    free, memory = free_bytes(cache_root()), memory_bytes()
    size = f"the decoded images take {format_bytes(needed)}"
    if needed > share * free:
        half = "" if asked == "on" else "half of "
        return f"{size}, more than {half}the {format_bytes(free)} that are free in {cache_root()}"
    if asked == "auto" and needed > share * memory:
        return f"{size}, more than half of this machine's memory of {format_bytes(memory)}; data.cache=on keeps them"
    return ""


def entry_of(split: ImageSplit) -> str:
    """Name the entry of the cache that holds the decoded images of a split."""
    return entry_key("images", split.state, split.settings.identity())


def _decoded(split: ImageSplit, report: Report) -> CacheEntry:
    return cached(entry_of(split), lambda folder: _decode(split, folder, report), resumable=True)


def _decode(split: ImageSplit, folder: Path, report: Report) -> dict[str, Any]:
    """Decode what is not yet in ``folder``.

    Raises:
        DamagedError: an image cannot be read; what was decoded stays for the next time.
    """
    images = StoredImages(split.settings)
    file = DecodedFile(folder, len(images), split.settings.shape)
    file.create()
    found = file.recorded()
    bad: dict[int, str] = {}

    def note(record: ChunkRecord) -> None:
        bad.update({row: what for row, what, _ in record.bad})
        _refuse_bad(split, bad, record.bad[0][2] if record.bad else "")

    for record in found.values():
        note(record)
    progress = _Progress(
        file.chunks, len(found), f"decoding {split.rows:,} images, {format_bytes(split.bytes)}", report
    )

    def done(record: ChunkRecord) -> None:
        note(record)
        file.record(record)
        progress.step()

    decode_chunks(images, file, [n for n in range(file.chunks) if n not in found], done)
    file.finish()
    if bad:
        write_rows(folder / BAD, bad)
    channels, height, width = split.settings.shape
    return {"about": f"{split.rows:,} images of {split.settings.root}, {channels} x {height} x {width}"}


def _refuse_bad(split: ImageSplit, bad: Mapping[int, str], hint: str = "") -> None:
    """Name the first images that cannot be read, where there are more than there may be."""
    if split.skip is not None:
        if len(bad) > (most := most_bad(split.skip, split.rows)):
            raise too_many_error(split.name, split.rows, most, bad)
        return
    if not bad:
        return
    lines = list(bad.values())[:_NAMED]
    if len(bad) > _NAMED:
        lines.append(f"and {len(bad) - _NAMED:,} more near them")
    raise DamagedError("\n".join(lines), hint or "replace the file, remove its row, or set data.on_bad=skip")


class _Progress:
    """A teller of how many chunks are done."""

    def __init__(self, whole: int, done: int, what: str, report: Report) -> None:
        self._whole, self._done, self._what, self._report = whole, done, what, report
        self._begin = time.monotonic()
        self._before = done
        self._told = self._begin

    def step(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._told < _SAY_SECONDS:
            return
        self._told = now
        left = (self._whole - self._done) * (now - self._begin) / (self._done - self._before)
        self._report(self._what, f"{self._done / self._whole:.0%}, {left:,.0f} s left")

"""``shards``: files of rows that are streamed, in an order that is shuffled within a window of row groups."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..cache import CacheEntry, cached, entry_key, fingerprint
from ..common import UsageError, definition_location, load_callable, suggestion
from ..config import DataConfig, DatasetInfo, FoundSetting, SplitInfo
from ..order import WINDOW_ALGORITHM, SampleOrder, WindowOrder, measure_shuffle
from ..samples import SampleSource, shape_of
from ..shards import (
    COMPRESSED,
    ENDINGS,
    KINDS,
    SampleLayout,
    ShardIndex,
    ShardRows,
    StoredFile,
    format_of,
    scan_shards,
    stamps_of,
)
from ..storage import RUN_PATIENCE, START_PATIENCE
from .arguments import argument, read_arguments, text
from .shard_files import ShardFolder, check_storage
from .source import DataSource, PreparedSplit, Reader, no_inputs
from .splits import MapSplit

_VERSION = 1
_INDEX_VERSION = 2
_WINDOW_BYTES = 2**29
_LARGE_PIECE = 2**25
_WINDOWS = (8, 12, 24, 48, 60, 120, 240, 360, 720, 1024)
"""Numbers with many divisors: a process reads whole lanes."""
_SMALL_BYTES = 2**26
"""Of a set that every process may hold: its rows are permuted as a whole."""


def _names(key: str, value: Any) -> tuple[str, ...] | None:
    """Check one text or a list of texts."""
    listed = [value] if isinstance(value, str) else value
    if value is None:
        return None
    if (
        not isinstance(listed, list | tuple)
        or not listed
        or not all(isinstance(n, str) and n for n in listed)
    ):
        raise UsageError(
            f"data.args.{key}: {value!r} is neither a text nor a list of texts", "write it in quotes"
        )
    if len(set(listed)) != len(listed):
        raise UsageError(f"data.args.{key}: {value!r} names one twice", "name each once")
    return tuple(listed)


def _side(key: str, value: Any) -> str | tuple[str, ...] | None:
    return value if isinstance(value, str) and value else _names(key, value)


def _kinds(key: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        isinstance(kind, str) and kind in KINDS for kind in value.values()
    ):
        raise UsageError(
            f"data.args.{key}: {value!r} is not a map of columns to kinds", f"kinds are {', '.join(KINDS)}"
        )
    return {str(name): kind for name, kind in value.items()}


def _window(key: str, value: Any) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise UsageError(f"data.args.{key}: {value!r} is not a number of row groups", "choose at least 1")
    return value


@dataclass(frozen=True)
class ShardArguments:
    """``data.args`` of ``shards``; relative paths start from the config's folder."""

    files: str | tuple[str, ...] | None = argument(_names)
    """The training files: a pattern such as `train/*.parquet`, or several, or a folder of `save_to_disk`; they must be
    given."""
    val_files: str | tuple[str, ...] | None = argument(_names)
    """The validation files; unset: there are none."""
    input: str | tuple[str, ...] | None = argument(_side)
    """The column of the input, or several; unset, with `target`: a sample is the row, for a step."""
    target: str | tuple[str, ...] | None = argument(_side)
    """The column of the target, or several."""
    columns: Mapping[str, str] | None = argument(_kinds)
    """Kinds of columns, where those of the files are not meant: `{name: float}`."""
    classes: tuple[str, ...] | None = argument(_names)
    """Texts of the target, in the order of their numbers."""
    decode: str | None = text()
    """`./file.py:function` of a row that returns the sample, in the place of `input` and `target`."""
    storage: Mapping[str, Any] | None = argument(check_storage)
    """Options of fsspec's file system for files with an address, such as `{endpoint_url: "http://host:9000"}` or
    `{anon: true}`; credentials come from the environment."""
    window: int | None = argument(_window)
    """Row groups in flight over all processes together; unset: as many as have 512 MB."""


def make_ready(arguments: ShardArguments, config: DataConfig, base: Path) -> DatasetInfo:
    """Look at the files once, and keep which rows lie where as arrays in the cache.

    Raises:
        UsageError: an argument is wrong, or names no file.
        DamagedError: a file cannot be read, or is unlike the others.
    """
    _refuse_other_settings(arguments, config)
    patterns = {"train": ("files", arguments.files), "val": ("val_files", arguments.val_files)}
    sets = {
        which: _Prepared.of(key, given, _folder(arguments, base, START_PATIENCE))
        for which, (key, given) in patterns.items()
        if given or which == "train"
    }
    train = sets["train"]
    window = _window_of(train, arguments.window)
    splits = {
        which: SplitInfo(one.index.groups.n, {"index": str(one.entry.folder)}) for which, one in sets.items()
    }
    rows = {which: _rows(one.index, arguments, base) for which, one in sets.items()}
    sample = next(iter(rows.values()))[0]
    x, y = sample if isinstance(sample, tuple) and len(sample) == 2 else (None, None)  # noqa: PLR2004 - a pair
    contents = {which: one.contents for which, one in sets.items()}
    return DatasetInfo(
        name="shards",
        kind="shards",
        train=replace(splits["train"], window=window),
        val=splits.get("val"),
        input_shape=shape_of(x),
        input_dtype=None
        if shape_of(x) is None
        else str(getattr(x, "dtype", type(x).__name__)).removeprefix("torch."),
        classes=None if arguments.classes is None else len(arguments.classes),
        class_names=arguments.classes,
        target_shape=shape_of(y),
        mean=None,
        std=None,
        scale_uint8=arguments.decode is None or bool(config.scale_uint8),
        fingerprint=fingerprint("shards", _VERSION, WINDOW_ALGORITHM, window, contents),
        notes=tuple(_notes(sets, window, config.batch_size)),
        found=_found(train, arguments, window),
    )


@dataclass(frozen=True)
class _Prepared:
    """The files of one split, looked at."""

    entry: CacheEntry
    index: ShardIndex

    @classmethod
    def of(cls, key: str, patterns: Sequence[str] | None, folder: ShardFolder) -> _Prepared:
        names = folder.find(key, patterns)
        format_name = _common_format(key, names)
        stamps = stamps_of(names, folder.locate)
        scanned = cached(
            entry_key("shard_scan", _INDEX_VERSION, format_name, str(folder.base), stamps),
            partial(_scan, format_name=format_name, names=names, locate=folder.locate),
        )
        # Of what is in the files, not of their times: every node has it at the same place.
        known = [scanned.hashes, scanned.facts]
        entry = cached(entry_key("shard_index", _INDEX_VERSION, known), partial(_copy, scanned))
        return cls(entry, ShardIndex.load(entry.folder))

    @property
    def contents(self) -> list[Any]:
        """Return what decides which rows there are."""
        return [self.index.groups.n, [shard.digest for shard in self.index.shards], dict(self.index.kinds)]


def _scan(
    folder: Path, format_name: str, names: list[str], locate: Callable[[str], StoredFile]
) -> dict[str, Any]:
    scan_shards(format_name, names, locate).save(folder)
    return {}


def _copy(scanned: CacheEntry, folder: Path) -> dict[str, Any]:
    for name in scanned.hashes:
        shutil.copyfile(scanned.folder / name, folder / name)
    return scanned.facts


def _common_format(key: str, names: list[str]) -> str:
    """Name the format of all files.

    Raises:
        UsageError: one has none that is known, or they have several.
    """
    formats = {name: format_of(name) for name in names}
    unknown = next((name for name, found in formats.items() if found is None), None)
    if unknown is not None:
        raise UsageError(
            f"data.args.{key}: {unknown} is of no known format",
            f"names of shards end in {', '.join(ENDINGS)}",
        )
    if len(set(formats.values())) > 1:
        raise UsageError(
            f"data.args.{key}: files of several formats: {', '.join(sorted(map(str, set(formats.values()))))}",
            "choose those of one",
        )
    return str(formats[names[0]])


def _window_of(train: _Prepared, asked: int | None) -> int | None:
    """Return the row groups in flight; None where the set is small enough to be permuted as a whole."""
    count = train.index.groups.count
    if asked is not None:
        return min(asked, count)
    if train.index.decoded_bytes <= _SMALL_BYTES or count == 1:
        return None
    fitting = _WINDOW_BYTES * count // train.index.decoded_bytes
    return min(count, max(window for window in _WINDOWS if window <= max(fitting, _WINDOWS[0])))


def _refuse_other_settings(arguments: ShardArguments, config: DataConfig) -> None:
    for key in ("val_size", "fold"):
        if getattr(config, key):
            raise UsageError(
                f"data.{key}: shards are validated on files of their own", "name them in data.args.val_files"
            )
    for key in ("weights", "balance", "epoch_size", "group", "stratify"):
        if getattr(config, key):
            raise UsageError(
                f"data.{key}: shards are read in an order of their own, in which each sample comes once",
                "leave it out",
            )
    if arguments.decode is not None:
        given = [
            key for key in ("input", "target", "classes", "columns") if getattr(arguments, key) is not None
        ]
        if given:
            raise UsageError(
                f"data.args.{given[0]}: data.args.decode makes the sample", "leave out one of them"
            )
    elif (arguments.input is None) != (arguments.target is None):
        missing = "input" if arguments.input is None else "target"
        raise UsageError(f"data.args.{missing} is missing", "name input and target, or neither for a step")


def _layout(kinds: dict[str, str], arguments: ShardArguments, base: Path) -> SampleLayout:
    """Say what a sample is made of.

    Raises:
        UsageError: a column is not there.
    """
    named = {"columns": tuple(arguments.columns or ())}
    for key in ("input", "target"):
        side = getattr(arguments, key)
        named[key] = () if side is None else (side,) if isinstance(side, str) else side
    for key, names in named.items():
        for name in names:
            if name not in kinds:
                there = ", ".join(kinds)
                raise UsageError(
                    f"data.args.{key}: there is no column {name!r}{suggestion(name, list(kinds))}",
                    f"columns are {there}",
                )
    decode = None if arguments.decode is None else load_callable(arguments.decode, base)
    meant = {**kinds, **(arguments.columns or {})}
    return SampleLayout(meant, arguments.input, arguments.target, arguments.classes, decode)


def _rows(
    index: ShardIndex, arguments: ShardArguments, base: Path, order: WindowOrder | None = None
) -> ShardRows:
    layout = _layout(dict(index.kinds), arguments, base)
    return ShardRows(index, layout, _folder(arguments, base, RUN_PATIENCE).locate, order)


def _folder(arguments: ShardArguments, base: Path, patience: float) -> ShardFolder:
    return ShardFolder(base, dict(arguments.storage or {}), patience)


def _found(train: _Prepared, arguments: ShardArguments, window: int | None) -> tuple[FoundSetting, ...]:
    if window is None or arguments.window is not None:
        return ()
    each = train.index.decoded_bytes / train.index.groups.count / 2**20
    return (
        FoundSetting(
            "data.args.window", window, f"row groups of {each:,.1f} MB, over all processes together"
        ),
    )


def _notes(sets: dict[str, _Prepared], window: int | None, batch_size: int) -> list[str]:
    notes = []
    for which, one in sets.items():
        empty = int((one.index.first_groups[1:] == one.index.first_groups[:-1]).sum())
        if empty:
            notes.append(f"{empty:,} of {len(one.index.shards):,} {which} files have no rows")
        notes += _whole_files(which, one)
    if window is not None:
        groups = sets["train"].index.groups
        quality = measure_shuffle(WindowOrder(groups, batch_size, window), batch_size)
        notes.append(
            f"shuffled within {window:,} of {groups.count:,} row groups: were the files sorted by class, the counts of"
            f" classes would vary {quality} as much as under a full permutation"
        )
    return notes


def _whole_files(which: str, one: _Prepared) -> list[str]:
    """Say what it costs that large files are compressed in one piece."""
    index = one.index
    whole = int((index.first_groups[1:] - index.first_groups[:-1] == 1).sum())
    each = index.decoded_bytes / index.groups.count
    if index.format not in COMPRESSED or each < _LARGE_PIECE or whole * 2 < len(index.shards):
        return []
    what = (
        f"{whole:,} of {len(index.shards):,} {which} files are compressed in one piece: each is decompressed and held"
        f" as a whole, {each / 2**20:,.0f} MB; compressed in frames of some MB, they could be read in parts"
    )
    return [what]


def _prepared_rows(split: PreparedSplit) -> ShardRows:
    arguments = read_arguments("shards", ShardArguments, split.config.args)
    index = ShardIndex.load(Path(split.info.files["index"]))
    rows = _rows(index, arguments, split.base, _window_order(split, index))
    return replace(rows, keep=split.which == "train" and split.info.window is None)


def _window_order(split: PreparedSplit, index: ShardIndex) -> WindowOrder | None:
    window = split.info.window
    return None if window is None else WindowOrder(index.groups, split.config.batch_size, window)


def _open(split: PreparedSplit) -> MapSplit:
    rows = _prepared_rows(split)
    where = "" if rows.layout.decode is None else definition_location(rows.layout.decode)
    source = SampleSource("row", where)
    return MapSplit(
        rows, None, source, pairs=split.config.samples != "any", many=rows, target=split.config.target
    )


def _read(split: PreparedSplit) -> Reader:
    rows = _prepared_rows(split)
    return len(rows), rows.__getitem__


def _order(split: PreparedSplit) -> SampleOrder | None:
    return _window_order(split, ShardIndex.load(Path(split.info.files["index"])))


SOURCE = DataSource(
    "shards",
    "Parquet, Arrow or tar files or JSON lines, streamed; also from s3:// and https://.",
    ShardArguments,
    make_ready,
    _open,
    _read,
    no_inputs,
    order=_order,
)

"""Several data sets as one: their training samples one after another, and what each is evaluated on by its own name."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from ..cache import Array, cached, entry_key, fingerprint, load_array, save_array
from ..common import UsageError
from ..config import BATCH_SIZE, MIX, DataConfig, DatasetInfo, PadConfig, SplitInfo
from ..samples import SampleSource, read_sample
from ..sources import ArraySplit, DataSource, MapSplit, PreparedSplit, Reader, open_arrays, read_arrays

Find = Callable[[str], DataSource]
_ALIKE = {
    "mean": "mean",
    "std": "standard deviation",
    "classes": "number of classes",
    "class_names": "classes",
}
"""What all sets have in common, as one model is trained on them."""


def mixture(find: Find) -> DataSource:
    """Make the source of several data sets.

    Args:
        find: returns a source by its name.
    """
    return DataSource(
        MIX,
        "Several data sets by name, those of `data.sets`.",
        None,
        partial(_make_ready, find),
        partial(_open, find),
        partial(_read, find),
        lambda split: None,  # noqa: ARG005 - as others need it
        partial(_targets, find),
        partial(_column, find),
    )


def part_config(config: DataConfig, name: str) -> DataConfig:
    """Return the ``data`` section of one of the sets; what all have in common is left out."""
    part = (config.sets or {})[name]
    own = {"use": part.use, "args": part.args}
    common = dict.fromkeys(("sets", "val_size", "fold", "weights", "balance", "epoch_size", "group"))
    return config.model_copy(update={**common, "stratify": False, **own})


def _make_ready(find: Find, arguments: dict[str, Any], config: DataConfig, base: Path) -> DatasetInfo:  # noqa: ARG001
    parts = {}
    for name, one in (config.sets or {}).items():
        if one.use == MIX:
            raise UsageError(f"data.sets.{name}: a set of several sets", "list all of them in data.sets")
        parts[name] = find(one.use).prepare(part_config(config, name), base)
        what = "iterables" if parts[name].train.shard_lengths else parts[name].kind
        if what in ("iterables", "shards"):
            raise UsageError(
                f"data.sets.{name}: {what} are read in an order of their own, which other sets have no place in",
                "write all that is to be mixed into one set of shards",
            )
    first = next(iter(parts.values()))
    _refuse_unlike(parts)
    kinds = {part.kind for part in parts.values()}
    others = {
        named: part
        for named, (name, which) in _evaluated(parts).items()
        if (part := parts[name].split(which))
    }
    facts = replace(
        first,
        name=MIX,
        kind=first.kind if len(kinds) == 1 else "images",
        train=SplitInfo(sum(part.train.length for part in parts.values()), {}, class_counts=_counts(parts)),
        val=None,
        others=others,
        **{key: _common(parts, key) for key in ("input_shape", "input_dtype", "target_shape", "class_names")},
        classes=_most_classes(parts),
        image_root=None,
        fingerprint=fingerprint(MIX, [[name, part.fingerprint] for name, part in parts.items()]),
        notes=tuple(f"{name}: {note}" for name, part in parts.items() for note in part.notes),
        found=tuple(
            replace(found, key=found.key.replace("data.", f"data.sets.{name}.", 1))
            for name, part in parts.items()
            for found in part.found
            if found.key != BATCH_SIZE  # a batch has samples of all sets
        ),
        parts=parts,
    )
    return replace(facts, train=replace(facts.train, files=_joined_files(find, facts, config, base)))


def _refuse_unlike(parts: Mapping[str, DatasetInfo]) -> None:
    """Refuse sets that one model cannot be trained on, where that is known before samples are read."""
    (first, one), *others = parts.items()
    for name, other in others:
        for key, what in _ALIKE.items():
            mine, theirs = getattr(one, key), getattr(other, key)
            unsure = mine is None or theirs is None or "user" in (one.kind, other.kind)
            known = key in ("mean", "std") or not unsure
            if known and mine != theirs:
                raise UsageError(
                    f"data.sets: {first} and {name} have another {what}: {_shown(mine)} and {_shown(theirs)}",
                    f"make them alike by the arguments of the sets, data.sets.{name}.args",
                )
        bytes_ = [part for part in (one, other) if part.input_dtype == "uint8"]
        if len({part.scale_uint8 for part in bytes_}) > 1:
            raise UsageError(
                f"data.sets: bytes of one of {first} and {name} are divided by 255, those of the other are not",
                "set data.scale_uint8=true",
            )


def _shown(value: Any) -> str:
    return "none" if value is None else ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _common(parts: Mapping[str, DatasetInfo], key: str) -> Any:
    values = {getattr(part, key) for part in parts.values()}
    return values.pop() if len(values) == 1 else None


def _most_classes(parts: Mapping[str, DatasetInfo]) -> int | None:
    counts = [part.classes for part in parts.values()]
    known = [count for count in counts if count is not None]
    return max(known) if len(known) == len(counts) else None


def _counts(parts: Mapping[str, DatasetInfo]) -> tuple[int, ...] | None:
    counts = [part.train.class_counts for part in parts.values()]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return None
    total = np.zeros(max(map(len, known)), np.int64)
    for count in known:
        total[: len(count)] += count
    return tuple(total.tolist())


def _evaluated(parts: Mapping[str, DatasetInfo]) -> dict[str, tuple[str, str]]:
    """Name what is evaluated: of ``val`` of the set ``a`` ``val_a``, of its ``val_b`` ``val_a_b``.

    Raises:
        UsageError: two have one name.
    """
    found: dict[str, tuple[str, str]] = {}
    for name, part in parts.items():
        for which in [*(["val"] if part.val else []), *part.others]:
            kind, _, rest = which.partition("_")
            named = "_".join((kind, name, rest) if rest else (kind, name))
            if named in found:
                raise UsageError(f"data.sets: two sets have a split {named}", f"call {name} another name")
            found[named] = (name, which)
    return found


def _part_split(find: Find, split: PreparedSplit, name: str, which: str) -> tuple[DataSource, PreparedSplit]:
    """Return one set's split as its own source opens it."""
    facts, config = split.facts.parts[name], part_config(split.config, name)
    info = facts.split(which)
    if info is None:
        raise ValueError(f"{name} has no split {which!r}")
    subset = None if info.subset is None else load_array(info.subset)
    return find(config.use), PreparedSplit(facts, which, info, subset, config, split.base)


def _is_joined(split: PreparedSplit) -> bool:
    return split.which == "train" or split.subset is not None


def _open(find: Find, split: PreparedSplit) -> ArraySplit | MapSplit:
    if not _is_joined(split):
        name, which = _evaluated(split.facts.parts)[split.which]
        source, own = _part_split(find, split, name, which)
        return source.open(own)
    if split.info.files:
        return open_arrays(split)
    opened = {name: source.open(own) for name, (source, own) in _train_parts(find, split).items()}
    joined = JoinedSamples(opened)
    collation, pad = _batch_settings(opened)
    padding = None
    if pad is not None:
        from ..samples import build_padding  # it needs torch

        padding = build_padding(pad, joined, joined.__getitem__)
    pairs, target = split.config.samples != "any", split.config.target
    return MapSplit(joined, split.subset, SampleSource(), collation, padding, pairs, target=target)


def _train_parts(find: Find, split: PreparedSplit) -> dict[str, tuple[DataSource, PreparedSplit]]:
    return {name: _part_split(find, split, name, "train") for name in split.facts.parts}


def _batch_settings(
    opened: Mapping[str, ArraySplit | MapSplit],
) -> tuple[Callable[[list[Any]], Any] | None, PadConfig | None]:
    """Return what makes a batch of samples of all sets, and how they are padded.

    Raises:
        UsageError: the sets do not agree.
    """
    own: dict[str, tuple[Any, Any]] = dict.fromkeys(opened, (None, None))
    for name, split in opened.items():
        if isinstance(split, MapSplit):
            own[name] = split.collate, split.padding and split.padding.config
    (first, settings), *others = own.items()
    for name, other in others:
        for key, mine, theirs in zip(("collate", "pad"), settings, other, strict=True):
            if mine != theirs:
                raise UsageError(
                    f"data.sets: {first} and {name} do not agree on {key}, and a batch has samples of both",
                    f"set what is right for all of them: data.{key}",
                )
    return settings


class JoinedSamples:
    """The training samples of several sets, one set after another."""

    def __init__(self, parts: Mapping[str, ArraySplit | MapSplit]) -> None:
        self._parts = list(parts.values())
        self._sources = [
            replace((isinstance(split, MapSplit) and split.source) or SampleSource(), name=f"{name} sample")
            for name, split in parts.items()
        ]
        self._ends = list(accumulate(map(len, self._parts)))
        lengths = [getattr(getattr(split, "dataset", None), "lengths", None) for split in self._parts]
        known = [np.asarray(one, np.int64) for one in lengths if one is not None]
        self.lengths = np.concatenate(known) if len(known) == len(lengths) else None

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, row: int) -> Any:
        part = bisect_right(self._ends, row)
        split = self._parts[part]
        own = row - (self._ends[part - 1] if part else 0)
        if isinstance(split, ArraySplit):
            return split.x[own], split.y[own]
        return read_sample(split.dataset, own, self._sources[part])


def _read(find: Find, split: PreparedSplit) -> Reader:
    if not _is_joined(split):
        name, which = _evaluated(split.facts.parts)[split.which]
        source, own = _part_split(find, split, name, which)
        length, read = source.read(own)
        rows = own.subset
        return (length, read) if rows is None else (len(rows), lambda place: read(int(rows[place])))
    if split.info.files:
        return read_arrays(split)
    readers = [source.read(own) for source, own in _train_parts(find, split).values()]
    ends = list(accumulate(length for length, _ in readers))

    def read_joined(row: int) -> Any:
        part = bisect_right(ends, row)
        return readers[part][1](row - (ends[part - 1] if part else 0))

    return ends[-1], read_joined


def _joined_files(find: Find, facts: DatasetInfo, config: DataConfig, base: Path) -> dict[str, str]:
    """Join sets that are held whole into arrays that all ranks share; nothing where one is read sample by sample."""
    if "images" in {part.kind for part in facts.parts.values()}:
        return {}
    whole = PreparedSplit(facts, "train", facts.train, None, config, base)
    opened = {name: source.open(own) for name, (source, own) in _train_parts(find, whole).items()}
    _batch_settings(opened)
    splits = [split for split in opened.values() if isinstance(split, ArraySplit)]
    kinds = {(split.x.dtype, split.x.shape[1:], split.y.dtype, split.y.shape[1:]) for split in splits}
    if len(splits) < len(opened) or len(kinds) > 1:
        return {}
    try:
        arrays = {role: [getattr(split, role).numpy() for split in splits] for role in ("x", "y")}
    except (TypeError, RuntimeError):  # NumPy knows neither bfloat16 nor sparse tensors
        return {}
    return _stored(arrays)


def _stored(arrays: Mapping[str, Sequence[Array]]) -> dict[str, str]:
    digests = [
        [str(array.dtype), array.shape, hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()]
        for parts in arrays.values()
        for array in parts
    ]

    def build(folder: Path) -> dict[str, Any]:
        for role, parts in arrays.items():
            save_array(folder / f"{role}.npy", np.concatenate(parts))
        return {}

    entry = cached(entry_key(MIX, digests), build)
    return {role: str(entry.folder / f"{role}.npy") for role in arrays}


def _targets(find: Find, facts: DatasetInfo, config: DataConfig, base: Path) -> Array:
    return np.concatenate(
        [
            np.asarray(find(own.use).targets(part, own, base), np.int64)
            for part, own in ((part, part_config(config, name)) for name, part in facts.parts.items())
        ]
    )


def _column(find: Find, config: DataConfig, base: Path, key: str, name: str | None) -> Array | None:
    """Read a column of each set, one after another.

    Raises:
        UsageError: some sets have it, and others do not.
    """
    columns: dict[str, Array | None] = {}
    for part in config.sets or {}:
        own = part_config(config, part)
        columns[part] = find(own.use).column(own, base, key, name)
    there = {part: column for part, column in columns.items() if column is not None}
    if len(there) == len(columns):
        return np.concatenate([np.asarray(column) for column in there.values()])
    if there and key != "targets":
        have, lack = next(iter(there)), next(part for part in columns if part not in there)
        raise UsageError(
            f"data.{key}: the samples of {have} have it, those of {lack} have not",
            f"give it to the samples of all sets, or to none; data.{key}=false leaves it out",
        )
    return None

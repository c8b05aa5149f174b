"""A user's own data: ``data(**args) -> {"train": ds, "val": ds, …}``, called once, or once per process, and checked."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..bad_samples import ATTEMPTS
from ..cache import Array, class_counts, fingerprint
from ..common import (
    DamagedError,
    TrainingError,
    UsageError,
    definition_location,
    load_callable,
    with_path_hint,
)
from ..config import BATCH_SIZE, DataConfig, DatasetInfo, SplitInfo
from ..order import INTERLEAVED_ALGORITHM, InterleavedOrder, SampleOrder
from ..samples import (
    NO_NUMBERS,
    SampleSource,
    SplitDigest,
    TensorSplit,
    as_tensors,
    contract_error,
    fixed_randomness,
    lacks_of_map_style,
    read_sample,
    refuse_changing_samples,
    run_user_code,
    shape_of,
    source_of,
    split_digest,
)
from ..sharing import NotShared, WatchedCall, mapped_value, watched
from .iterable_rows import IterableRows
from .iterable_set import (
    as_indices,
    as_iterable_rows,
    iterable_contents,
    iterable_notes,
    lengths_of,
    reader_of,
    refuse_settings,
)
from .source import DataSource, PreparedSplit, Reader, of_subset
from .splits import ArraySplit, MapSplit
from .user_settings import SETTINGS, UserSettings, read_settings

Splits = Mapping[str, Any]
"""``train``, and perhaps ``val``, ``val_…`` and ``test…``: ``TensorSplit`` or a map-style data set."""
_RETURNED = {"weights": "weights", "group": "groups", "targets": "targets"}
"""What a column is in the dict that a user's callable returns."""
EVALUATED = re.compile(r"(val|test)(_\w+|\d*)", re.ASCII)
"""Splits besides ``train``."""

_called: dict[str, tuple[Splits, UserSettings]] = {}
_calls: dict[str, WatchedCall] = {}
_NOTHING: dict[str, str] = {}


def load_user_data(
    config: DataConfig, base: Path, shared: dict[str, str] = _NOTHING
) -> tuple[Splits, UserSettings]:
    """Call the user's callable and check what it returns; a process calls it once.

    Args:
        config: the ``data`` section.
        base: the folder of the config file.
        shared: where the preparation has left what it returned; it is called where that cannot be had.

    Raises:
        UsageError: there is no such callable.
        TrainingError: it raised, or broke the contract.
    """
    key = _key(config, base)
    if key not in _called:
        function = load_callable(config.use, base)
        found = _mapped(config, shared) if shared else None
        if found is None:
            found, call = watched(partial(_call, function, config, base))
            if call is not None:
                _calls[key] = call
        _called[key] = found
    return _called[key]


def user_call(config: DataConfig, base: Path) -> WatchedCall | None:
    """Return what there is to say of the call of the user's callable, where it was watched."""
    return _calls.get(_key(config, base))


def _key(config: DataConfig, base: Path) -> str:
    return json.dumps([config.use, config.args, str(base)], sort_keys=True, default=repr)


def _mapped(config: DataConfig, shared: dict[str, str]) -> Any:
    try:
        return mapped_value(shared)
    except NotShared as reason:
        _say_called(config.use, f"what it returned before cannot be mapped: {reason}")
        return None


def _say_called(use: str, why: str) -> None:
    sys.stderr.write(f"note: {use} is called in this process: {why}\n")
    sys.stderr.flush()


def _call(function: Callable[..., Any], config: DataConfig, base: Path) -> tuple[Splits, UserSettings]:
    try:
        with fixed_randomness():  # or draws that nobody has seeded are others on each call
            result = run_user_code(config.use, partial(function, **config.args))
    except TrainingError as error:
        raise with_path_hint(error, base) from error.__cause__
    items = _checked_items(config.use, result)
    settings = read_settings(config.use, result)
    return {name: _checked_split(config, settings, name, split) for name, split in items}, settings


def make_ready(arguments: dict[str, Any], config: DataConfig, base: Path) -> DatasetInfo:  # noqa: ARG001 - DataSource
    """Describe a user's data; shapes and classes as far as the first sample shows them."""
    splits, settings = load_user_data(config, base)
    train = splits["train"]
    x, y = run_user_code(config.use, partial(_first_sample, train, skip=config.on_bad == "skip"))
    classes = _classes(splits)
    digests = {name: _digest(config, split) for name, split in splits.items()}
    made_by = definition_location(load_callable(config.use, base))
    refuse_settings(config, train, settings)
    for split in splits.values():
        if not isinstance(split, TensorSplit | IterableRows):
            refuse_changing_samples(config.use, split, source_of(split, otherwise=made_by).where)
    found = settings.found(config.use, collate=config.collate is None, pad=config.pad is None)
    infos = {name: _split_info(split, digests[name].contents, classes) for name, split in splits.items()}
    return DatasetInfo(
        name=config.use,
        kind="user",
        train=infos["train"],
        val=infos.get("val"),
        others={name: info for name, info in infos.items() if name not in ("train", "val")},
        input_shape=shape_of(x),
        input_dtype=_dtype(x),
        classes=classes,
        class_names=None,
        target_shape=shape_of(y),
        mean=None,
        std=None,
        scale_uint8=bool(config.scale_uint8),
        fingerprint=fingerprint(
            config.use,
            {name: digest.contents for name, digest in digests.items()},
            *[[one.key, one.value] for one in found if one.key != BATCH_SIZE],
        ),
        found=found,
        notes=(
            *iterable_notes(train, settings.batch_size or config.batch_size),
            *(
                note
                for name, digest in digests.items()
                for note in digest.notes(name, source_of(splits[name], otherwise=made_by).where)
            ),
        ),
    )


def _map_split(data: Any, split: PreparedSplit) -> MapSplit:
    config, base = split.config, split.base
    own_rows = split.which != "train" and split.subset is None
    called = f"{split.which} data sample" if own_rows else "data sample"
    made_by = definition_location(load_callable(config.use, base))
    if isinstance(data, IterableRows):
        rows, source = reader_of(data)
        return MapSplit(rows, None, source, pairs=config.samples != "any", many=rows, target=config.target)
    settings = load_user_data(config, base)[1]
    own = settings.collate if config.collate is None else load_callable(config.collate, base)
    source = source_of(data, called, made_by)
    padding, pad = None, config.pad or settings.pad
    if pad is not None:
        from ..samples import build_padding  # it needs torch

        padding = build_padding(pad, data, partial(_sample_as_always, data, source))
    return MapSplit(data, split.subset, source, own, padding, config.samples != "any", target=config.target)


def _sample_as_always(data: Any, source: SampleSource, row: int) -> Any:
    with fixed_randomness():
        return read_sample(data, row, source)


def _open(split: PreparedSplit) -> ArraySplit | MapSplit:
    """Map what the user's callable has returned, or call it in this process.

    Raises:
        DamagedError: it returned something else than before.
    """
    data = _rows_of(split)
    other = _other_than_before(split, data)
    if other is not None and split.facts.shared:
        _say_called(split.config.use, "its samples are others where they are mapped")
        _called.pop(_key(split.config, split.base))
        data = _rows_of(replace(split, facts=replace(split.facts, shared={})))
        other = _other_than_before(split, data)
    if other is not None:
        raise other
    if isinstance(data, TensorSplit):
        return ArraySplit(data.x, data.y, split.subset)
    return _map_split(data, split)


def _other_than_before(split: PreparedSplit, data: Any) -> DamagedError | None:
    """Compare data with what the preparation has seen."""
    config, facts, info = split.config, split.facts, split.info
    split_off = split.subset is not None
    rows = facts.train.length + (facts.val.length if facts.val else 0) if split_off else info.length
    if len(data) != rows:
        return DamagedError(
            f"{config.use} returned {len(data)} samples where it had returned {rows} before",
            "its length must be the same on every call: give it a seed, or a fixed list",
        )
    if fingerprint(_digest(config, data).contents) != info.contents:
        return DamagedError(
            f"{config.use} returned other data in this process than before the ranks started",
            "make it the same on every call: seed its generators, sort what comes out of sets and folders",
        )
    return None


def _rows_of(split: PreparedSplit) -> Any:
    """Return what holds the rows of a split: a split-off validation set lies in the user's ``train``."""
    splits = load_user_data(split.config, split.base, split.facts.shared)[0]
    return splits["train" if split.subset is not None else split.which]


def _read(split: PreparedSplit) -> Reader:
    """Read samples, each of which is tried for a batch with the first.

    Raises:
        TrainingError: by what is returned, for a sample that cannot be read, or not be trained on.
    """
    data = _rows_of(split)
    if isinstance(data, TensorSplit):
        return len(data), lambda row: (data.x[row], data.y[row])
    from ..samples import TriedSamples  # it needs torch

    return len(data), TriedSamples(_map_split(data, split))


def content_hash(use: str, split: Any) -> str:
    """Hash a split: the same in every process that calls the same callable with the same arguments."""
    return fingerprint(split_digest(use, split).contents)


def _targets(facts: DatasetInfo, config: DataConfig, base: Path) -> Array:  # noqa: ARG001 - DataSource
    return np.asarray(load_user_data(config, base)[0]["train"].y.long())


def _inputs(split: PreparedSplit) -> Array | None:
    data = _rows_of(split)
    if not isinstance(data, TensorSplit):
        return None
    try:
        return of_subset(data.x.numpy(), split)
    except (TypeError, RuntimeError):  # NumPy knows neither bfloat16 nor sparse tensors
        return None


def _column(config: DataConfig, base: Path, key: str, name: str | None) -> Array | None:
    """Return what the user's callable has returned of its training samples besides them."""
    if name is not None:
        raise UsageError(
            f"data.{key}: {config.use} is a function, which has no column {name!r}",
            f'have it return them, {{"train": …, "{_RETURNED[key]}": one for each sample}}, and leave this out',
        )
    return load_user_data(config, base)[1].columns.get(_RETURNED[key])


def _order(split: PreparedSplit) -> SampleOrder | None:
    lengths = split.info.shard_lengths
    return None if lengths is None else InterleavedOrder(as_indices(lengths), split.config.batch_size)


SOURCE = DataSource(
    "package.module:callable",
    "What your own callable returns.",
    None,
    make_ready,
    _open,
    _read,
    _inputs,
    _targets,
    _column,
    _order,
)


def _checked_items(use: str, result: Any) -> list[tuple[str, Any]]:
    if not isinstance(result, Mapping):
        raise contract_error(use, f"returned {type(result).__name__}, not a dict")
    known = ("train", *SETTINGS)
    unknown = [key for key in result if key not in known and not EVALUATED.fullmatch(str(key))]
    if unknown:
        raise contract_error(
            use,
            f"returned the unknown key {unknown[0]!r}: splits are train, val, val_… and test…,"
            f" settings are {', '.join(SETTINGS)}",
        )
    if result.get("train") is None:
        raise contract_error(use, 'returned nothing for "train"')
    return [(name, split) for name, split in result.items() if split is not None and name not in SETTINGS]


def _checked_split(config: DataConfig, settings: UserSettings, name: str, split: Any) -> Any:
    import torch

    use = config.use
    split = as_iterable_rows(config, name, as_tensors(use, name, split))
    if isinstance(split, TensorSplit) and (config.pad or settings.pad):
        raise UsageError(
            f"data.pad: {use} returned tensors for {name!r}: they are of one length", "leave it out"
        )
    if isinstance(split, TensorSplit) and (config.collate or settings.collate):
        raise UsageError(
            f"data.collate: {use} returned tensors for {name!r}, whose rows are taken as they are",
            "leave data.collate out, or return a data set that is read sample by sample",
        )
    if isinstance(split, torch.utils.data.IterableDataset):
        raise contract_error(
            use,
            f"returned an IterableDataset for {name!r}{NO_NUMBERS}",
        )
    if not isinstance(split, TensorSplit) and (lacks := lacks_of_map_style(split)):
        raise contract_error(use, f"returned {type(split).__name__} for {name!r}, which {lacks}")
    length = run_user_code(use, partial(type(split).__len__, split))
    if not hasattr(length, "__index__") or length < 0:
        raise contract_error(
            use, f"returned {type(split).__name__} for {name!r}, whose __len__ is {length!r}"
        )
    if length == 0:
        raise contract_error(use, f"returned no samples for {name!r}")
    return split


def _digest(config: DataConfig, split: Any) -> SplitDigest:
    if isinstance(split, IterableRows):
        return SplitDigest([INTERLEAVED_ALGORITHM, *iterable_contents(config.use, split)])
    return split_digest(config.use, split, skip=config.on_bad == "skip")


def _first_sample(split: Any, *, skip: bool) -> tuple[Any, Any]:
    """Return the first input and target, or None for each where a sample is not a pair."""
    if isinstance(split, TensorSplit):
        return split.x[0], split.y[0]
    with fixed_randomness():
        sample = _first_good(split) if skip else split[0]
    from ..samples import is_pair  # it needs torch

    return (sample[0], sample[1]) if is_pair(sample) else (None, None)


def _first_good(split: Any) -> Any:
    """Read the first sample that can be read, among as many as would be tried in the place of a bad one."""
    for row in range(min(len(split), ATTEMPTS) - 1):
        try:
            return split[row]
        except (Exception, SystemExit):  # noqa: BLE001, S112 - the user's; it is named when it is trained on
            continue
    return split[min(len(split), ATTEMPTS) - 1]


def _dtype(value: Any) -> str | None:
    found = getattr(value, "dtype", None)
    return None if found is None else str(found).removeprefix("torch.")


def _classes(splits: Splits) -> int | None:
    """Count the classes as one more than the largest target, where all targets are known whole numbers from 0 on."""
    largest = -1
    for split in splits.values():
        if not isinstance(split, TensorSplit) or split.y.ndim != 1 or split.y.is_floating_point():
            return None
        if split.y.is_complex() or int(split.y.long().min()) < 0:  # torch compares no uint16 to uint64
            return None
        largest = max(largest, int(split.y.long().max()))
    return largest + 1


def _split_info(split: Any, digest: list[Any], classes: int | None) -> SplitInfo:
    counts = class_counts(split.y.long().numpy(), classes) if isinstance(split, TensorSplit) else None
    lengths = lengths_of(split)
    return SplitInfo(len(split), {}, contents=fingerprint(digest), class_counts=counts, shard_lengths=lengths)

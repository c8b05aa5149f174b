"""What of a training set is held out for validation: ``data.val_size`` and ``data.fold``."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..bad_samples import known_rows
from ..cache import Array, CacheEntry, cached, class_counts, entry_key, fingerprint, load_array, save_array
from ..common import UsageError
from ..config import DataConfig, DatasetInfo, SplitInfo
from ..order import (
    ALGORITHM,
    Indices,
    class_folds,
    class_group_folds,
    group_folds,
    permute,
    shard,
    take_classes,
    take_groups,
)
from ..sources import DataSource
from .columns import sample_classes, sample_groups

_KEY = (0x73706C6974, 0)  # "split" in ASCII: one fixed permutation for every split of n samples
_SHOWN = 3


def hold_out(facts: DatasetInfo, config: DataConfig, base: Path, source: DataSource) -> DatasetInfo:
    """Split off what the config asks for.

    Raises:
        UsageError: it cannot be split off so.
    """
    if config.fold is not None and config.val_size is not None:
        raise UsageError("data.fold: data.val_size says what is validated on, too", "leave out one of them")
    if config.val_size is None and config.fold is None:
        _refuse_idle_keys(config)
        return facts
    if config.val_size == 0:
        return _without_validation(facts)
    if facts.val is not None and facts.kind != "arrays":
        asked = "data.fold: a part" if config.fold else f"data.val_size: {config.val_size}"
        raise UsageError(
            f"{asked} to be split off, but {config.use} has validation data of its own",
            "leave out one of them",
        )
    _refuse_sizes(facts.train.length, config)
    return _split(_without_validation(facts), config, base, source)


def _refuse_idle_keys(config: DataConfig) -> None:
    key = "data.group" if config.group else "data.stratify" if config.stratify else None
    if key is not None:
        raise UsageError(
            f"{key}: nothing is split off the training set", "say what is: data.fold or data.val_size"
        )


def _refuse_sizes(n: int, config: DataConfig) -> None:
    """Refuse to leave nothing to train on, or to validate on."""
    fold, size = config.fold, config.val_size or 0
    if fold is None and size >= n:
        raise UsageError(
            f"data.val_size: {size} of {n} training samples leaves none to train on",
            f"choose less than {n}",
        )
    if fold is not None and fold.k > n:
        raise UsageError(f"data.fold.k: {fold.k} parts of {n} samples", f"choose at most {n}")


def _without_validation(facts: DatasetInfo) -> DatasetInfo:
    """Make the validation set of a built-in data set its test set: training is not to see it."""
    if facts.val is None or facts.kind != "arrays":
        return replace(facts, val=None)
    return replace(facts, val=None, others={"test": facts.val, **facts.others})


def _split(facts: DatasetInfo, config: DataConfig, base: Path, source: DataSource) -> DatasetInfo:
    entry, notes = _entry(facts, config, base, source)
    counted = facts.train.class_counts is not None
    targets = source.targets(facts, config, base) if counted else None
    return replace(
        facts,
        train=_subset_info(facts, entry, "train", targets),
        val=_subset_info(facts, entry, "val", targets),
        fingerprint=fingerprint(facts.fingerprint, entry.hashes),
        notes=facts.notes + notes,
    )


def _entry(
    facts: DatasetInfo, config: DataConfig, base: Path, source: DataSource
) -> tuple[CacheEntry, tuple[str, ...]]:
    """Return which rows are trained and validated on, as files, and what users should know of it."""
    n = facts.train.length
    groups = sample_groups(source, facts, config, base)
    if groups is not None or config.stratify:
        classes = sample_classes(source, facts, config, base, "data.stratify") if config.stratify else None
        rows = _chosen(config, classes, groups)
        digest = hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
        entry = cached(entry_key("held_out", n, digest), lambda folder: _build(folder, n, lambda: rows))
        return entry, _notes(config, classes, groups, rows)
    fold = config.fold
    begin, end = (0, config.val_size or 0) if fold is None else shard(0, n, fold.index, fold.k)
    key = ("split", ALGORITHM, n, end) if not begin else ("fold", ALGORITHM, n, begin, end)

    def rows_of_permutation() -> Indices:
        return np.sort(permute(np.arange(n, dtype=np.int64), n, _KEY)[begin:end])

    return cached(entry_key(*key), lambda folder: _build(folder, n, rows_of_permutation)), ()


def _chosen(
    config: DataConfig, classes: Indices | None, groups: tuple[Indices, tuple[str, ...]] | None
) -> Indices:
    """Return the rows that are validated on, ascending: whole groups, or a share of each class, or both."""
    numbers, fold = (None if groups is None else groups[0]), config.fold
    if groups is not None and fold is not None and fold.k > len(groups[1]):
        raise UsageError(
            f"data.fold.k: {fold.k} parts of {len(groups[1])} groups, none of which may be cut",
            f"choose at most {len(groups[1])}",
        )
    if fold is None:
        return _of_size(config.val_size or 0, classes, numbers)
    if numbers is None:
        parts = class_folds(_given(classes), fold.k, _KEY)
    elif classes is None:
        parts = group_folds(numbers, fold.k, _KEY)
    else:
        parts = class_group_folds(classes, numbers, fold.k, _KEY)
    return np.flatnonzero(parts == fold.index).astype(np.int64)


def _of_size(size: int, classes: Indices | None, groups: Indices | None) -> Indices:
    if groups is None:
        return take_classes(_given(classes), size, _KEY)
    if classes is not None:
        raise UsageError(
            "data.stratify: a number of samples of whole groups, with a share of each class, may not exist",
            "use data.fold, which comes as near as it goes",
        )
    rows = take_groups(groups, size, _KEY)
    if rows.size != size:
        smallest = int(np.bincount(groups).min())
        nearest = f"data.val_size={rows.size}" if rows.size else f"at least {smallest}, the smallest group"
        raise UsageError(
            f"data.val_size: {size} samples would cut a group in two; whole groups give {rows.size}",
            f"ask for {nearest}, or use data.fold; data.group=false splits samples one by one",
        )
    return rows


def _given(classes: Indices | None) -> Indices:
    if classes is None:
        raise ValueError("neither classes nor groups")
    return classes


def _notes(
    config: DataConfig,
    classes: Indices | None,
    groups: tuple[Indices, tuple[str, ...]] | None,
    rows: Indices,
) -> tuple[str, ...]:
    notes = []
    if groups is not None:
        by = config.group or f"`groups` of {config.use}"
        held = np.unique(groups[0][rows]).size
        notes.append(f"whole groups by {by}: {len(groups[1]) - held:,} are trained on, {held:,} validated on")
    if classes is not None:
        absent = sorted(set(np.unique(classes).tolist()) - set(np.unique(classes[rows]).tolist()))
        if absent:
            shown = ", ".join(map(str, absent[:_SHOWN])) + ", …" * (len(absent) > _SHOWN)
            notes.append(f"no sample of class {shown} is validated on: there are too few")
    return tuple(notes)


def _build(folder: Path, n: int, rows: Callable[[], Indices]) -> dict[str, Any]:
    held = rows()
    save_array(folder / "val.npy", held)
    save_array(folder / "train.npy", np.delete(np.arange(n, dtype=np.int64), held))
    return {}


def _subset_info(facts: DatasetInfo, entry: CacheEntry, which: str, targets: Array | None) -> SplitInfo:
    path = entry.folder / f"{which}.npy"
    rows = load_array(path)
    good = np.setdiff1d(rows, list(known_rows(facts.train.files.get("bad"))), assume_unique=True)
    counts = None if targets is None else class_counts(targets[good], facts.classes)
    return replace(facts.train, length=len(rows), subset=str(path), class_counts=counts)

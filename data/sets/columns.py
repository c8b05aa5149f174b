"""What is known of each training sample besides the sample itself: its class, its group, its weight."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cache import Array
from ..common import UsageError
from ..config import DataConfig, DatasetInfo
from ..sources import DataSource


def sample_classes(
    source: DataSource, facts: DatasetInfo, config: DataConfig, base: Path, key: str
) -> NDArray[np.int64]:
    """Return the class of each training sample, before any of them is split off.

    Args:
        source: of the data set.
        facts: of it.
        config: the ``data`` section.
        base: the folder of the config file.
        key: that needs them, for the message.

    Raises:
        UsageError: nobody knows them without reading all samples.
    """
    if facts.train.class_counts is not None:
        return np.asarray(source.targets(facts, config, base), np.int64)
    found = source.column(config, base, "targets", None)
    if found is None:
        raise UsageError(
            f"{key}: the classes of {facts.name} are not known before its samples are read",
            'return them besides the splits: {"train": …, "targets": a class for each sample}',
        )
    classes = np.asarray(found)
    if classes.shape != (facts.train.length,) or classes.dtype.kind not in "iub":
        raise UsageError(
            f"{key}: `targets` is {_described(classes)}, not a whole number for each of {facts.train.length} samples",
            "return one class for each training sample",
        )
    return classes.astype(np.int64)


def sample_groups(
    source: DataSource, facts: DatasetInfo, config: DataConfig, base: Path
) -> tuple[NDArray[np.int64], tuple[str, ...]] | None:
    """Return the number of each training sample's group, and the groups' names; None where there are no groups.

    Raises:
        UsageError: a sample has none.
    """
    if config.group is False:
        return None
    found = source.column(config, base, "group", config.group)
    if found is None:
        return None
    values = np.asarray(found)
    if values.shape != (facts.train.length,):
        raise UsageError(
            f"data.group: {_described(values)} for {facts.train.length} training samples",
            "give a group for each training sample",
        )
    missing = np.flatnonzero(values != values if values.dtype.kind == "f" else values == "")  # noqa: PLR0124 - NaN
    if missing.size:
        raise UsageError(
            f"data.group: sample {missing[0]} and {missing.size - 1} more are of no group",
            "name one for each; samples that belong to no other have a group of their own",
        )
    names, numbers = np.unique(values, return_inverse=True)
    return numbers.astype(np.int64), tuple(map(str, names.tolist()))


def sample_weights(
    source: DataSource, facts: DatasetInfo, config: DataConfig, base: Path, length: int
) -> NDArray[np.float64] | None:
    """Return the sampling weight of each training sample, before any is split off; None where none are given.

    Raises:
        UsageError: one is not a number, or negative, or all are 0.
    """
    if config.weights is False:
        return None
    found = source.column(config, base, "weights", config.weights)
    if found is None:
        return None
    weights = np.array([_number(value) for value in np.asarray(found).tolist()], np.float64).reshape(-1)
    if np.shape(found) != (length,):
        raise UsageError(
            f"data.weights: {_described(np.asarray(found))} for {length} training samples of {facts.name}",
            "give one number for each training sample",
        )
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if bad.size:
        more = f", and {bad.size - 1} more" if bad.size > 1 else ""
        raise UsageError(
            f"data.weights: sample {bad[0]} has the weight {np.asarray(found).tolist()[int(bad[0])]!r}{more}",
            "a weight is a finite number from 0 on",
        )
    return weights


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _described(values: Array) -> str:
    return f"{values.dtype.name} of shape {list(values.shape)}"

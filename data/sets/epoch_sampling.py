"""How often training samples come in an epoch: shares of sets and classes, weights, epochs of another length."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..bad_samples import known_rows
from ..cache import cached, entry_key, fingerprint, load_array, save_array
from ..common import UsageError
from ..config import DataConfig, DatasetInfo, Sampling
from ..order import FullOrder, Indices, MixedOrder, SampleOrder, WeightedOrder, cumulate, share_out
from ..sources import DataSource
from .columns import sample_classes, sample_weights

_WHOLE = 1.0


def add_sampling(
    facts: DatasetInfo, config: DataConfig, base: Path, source: DataSource, rows: int
) -> DatasetInfo:
    """Add to what is known of a data set how often its training samples come.

    Args:
        facts: of the data set, after what is held out is split off.
        config: the ``data`` section.
        base: the folder of the config file.
        source: of the data set.
        rows: of its training set before that.

    Raises:
        UsageError: it cannot be sampled so.
    """
    whole = replace(facts, train=replace(facts.train, length=rows))
    if config.sets and any(one.weight is not None for one in config.sets.values()):
        found: Sampling | None = _of_sets(facts, config)
    elif config.balance is not None:
        classes = sample_classes(source, whole, config, base, "data.balance")
        found = _of_classes(facts, config, _kept(classes, facts))
    else:
        weights = sample_weights(source, facts, config, base, rows)
        found = None if weights is None else _of_weights(facts, config, _kept(weights, facts))
    if found is None and config.epoch_size not in (None, facts.train.length):
        found = _parts("data.epoch_size", config, ("all",), (facts.train.length,), (_WHOLE,))
    if found is None:
        return facts
    if (
        found.kind == "parts"
        and config.weights is None
        and source.column(config, base, "weights", None) is not None
    ):
        notes = (*facts.notes, f"the weights that {config.use} returns are not used: {found.by} is set")
        facts = replace(facts, notes=notes)
    plain = replace(found, files={}, often=(0.0, 0.0))  # whose last bits are the machine's
    digests = [_digest(load_array(path)) for _, path in sorted(found.files.items())]
    return replace(
        facts,
        sampling=found,
        fingerprint=fingerprint(facts.fingerprint, repr(plain), digests),
    )


def sampled_order(facts: DatasetInfo) -> SampleOrder:
    """Return the rule by which samples come in an epoch."""
    sampling = facts.sampling
    if sampling is None:
        return FullOrder(facts.train.length)
    if sampling.kind == "weights":
        return WeightedOrder(load_array(sampling.files["cumulative"]), sampling.epoch_size)
    rows = sampling.files.get("rows")
    return MixedOrder(sampling.sizes, sampling.shares, None if rows is None else load_array(rows))


def _kept(values: NDArray[np.generic], facts: DatasetInfo) -> NDArray[np.generic]:
    """Choose the values of samples that are trained on."""
    return values if facts.train.subset is None else values[load_array(facts.train.subset)]


def _are_bad(facts: DatasetInfo) -> NDArray[np.bool_]:
    """Tell which samples that are trained on are known to be bad."""
    subset = facts.train.subset
    rows = np.arange(facts.train.length) if subset is None else load_array(subset)
    return np.isin(rows, list(known_rows(facts.train.files.get("bad"))))


def _of_sets(facts: DatasetInfo, config: DataConfig) -> Sampling:
    """Give each set its share; what is held out is of all of them."""
    names = tuple(config.sets or {})
    ends = np.cumsum([facts.parts[name].train.length for name in names])
    if facts.train.subset is not None:
        ends = np.searchsorted(load_array(facts.train.subset), ends)
    sizes = tuple(np.diff(ends, prepend=0).tolist())
    weights = [one.weight or 0.0 for one in (config.sets or {}).values()]
    return _parts("data.sets", config, names, sizes, weights)


def _of_classes(facts: DatasetInfo, config: DataConfig, classes: NDArray[np.generic]) -> Sampling:
    good = np.flatnonzero(~_are_bad(facts))  # a bad sample has no class
    present, sizes = np.unique(classes[good], return_counts=True)
    names = facts.class_names or ()
    named = tuple(names[label] if 0 <= label < len(names) else str(label) for label in present.tolist())
    found = _parts("data.balance", config, named, tuple(sizes.tolist()), [_WHOLE] * present.size)
    rows = good[np.argsort(classes[good], kind="stable")].astype(np.int64)
    return replace(found, files={"rows": _stored("rows", rows)})


def _parts(
    by: str, config: DataConfig, names: Sequence[str], sizes: Sequence[int], weights: Sequence[float]
) -> Sampling:
    """Cut an epoch into the shares of its parts.

    Raises:
        UsageError: a part that is wanted has no sample, or no place in an epoch.
    """
    epoch_size = config.epoch_size or sum(size for size, weight in zip(sizes, weights, strict=True) if weight)
    shares = share_out(weights, epoch_size)
    for name, size, share, weight in zip(names, sizes, shares, weights, strict=True):
        if weight and not size:
            raise UsageError(
                f"{by}: no sample of {name} is left to train on", "hold out less, or leave it out"
            )
        if weight and not share:
            raise UsageError(
                f"{by}: {name} has no sample in an epoch of {epoch_size:,}, as its share is less than one",
                "make data.epoch_size larger",
            )
    often = [share / size for share, size in zip(shares, sizes, strict=True) if share]
    never = sum(size for share, size in zip(shares, sizes, strict=True) if not share)
    return Sampling(
        "parts", by, epoch_size, (min(often), max(often)), never, tuple(names), tuple(sizes), shares
    )


def _of_weights(facts: DatasetInfo, config: DataConfig, values: NDArray[np.generic]) -> Sampling:
    weights = values.astype(np.float64)
    drawn = weights[weights > 0]
    if not drawn.size:
        raise UsageError("data.weights: all are 0", "leave the samples out that are not to be drawn")
    size = config.epoch_size or facts.train.length
    often = (drawn / drawn.max()) * (size / (drawn / drawn.max()).sum())
    by = f"data.weights={config.weights}" if config.weights else f"`weights` of {config.use}"
    files = {"cumulative": _stored("cumulative", cumulate(weights))}
    never = int(weights.size - drawn.size)
    return Sampling("weights", by, size, (float(often.min()), float(often.max())), never, files=files)


def _stored(role: str, values: NDArray[np.float64] | Indices) -> str:
    """Keep an array in the cache, where all ranks of a machine share it, and return its path."""

    def build(folder: Path) -> dict[str, object]:
        save_array(folder / f"{role}.npy", values)
        return {}

    return str(cached(entry_key("sampling", role, _digest(values)), build).folder / f"{role}.npy")


def _digest(values: NDArray[np.float64] | Indices) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()

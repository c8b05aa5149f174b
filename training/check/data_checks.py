"""``launch check``: is a data set what it says, and is a sample the same in every process?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch.utils._pytree import keystr, tree_flatten_with_path

from ...data.bad_samples import Skipping, skipping
from ...data.common import LockstepError, definition_location
from ...data.loading import Normalisation, Work, open_feed
from ...data.order import EpochOrder
from ...data.samples import as_bytes, is_pair, named_parts
from ...data.sets import open_split
from ...data.sources import ArraySplit, IterableRows, MapSplit, first_rows
from ..config import RunSpec
from .finding import Finding

_REREAD_SAMPLES = 6  # samples of each split that are read three times
_LABEL_SAMPLES = 64  # samples whose labels are looked at, where they cannot be known without reading
_WORKERS = 2
_SEEDING_HINT = (
    "draw from torch's, NumPy's or Python's global generators (torch.rand, np.random.rand, random.random):"
    " they are keyed by (seed, epoch, sample); not from default_rng(), SystemRandom or the time"
)
Split = ArraySplit | MapSplit


@dataclass(frozen=True)
class Labels:
    """Targets of one split that are whole numbers, as far as they were looked at."""

    split: str
    values: torch.Tensor
    """int64 [k]."""
    whole: bool
    """Whether these are all."""


def open_splits(spec: RunSpec) -> dict[str, Split]:
    """Open the run's splits, by name."""
    names: list[Literal["train", "val"]] = ["train"] if spec.facts.val is None else ["train", "val"]
    return {name: open_split(spec.facts, name, spec.config.data, spec.base) for name in names}


def check_length(splits: dict[str, Split]) -> Finding:
    """Check that a data set has as many samples as it says: its first and its last can be read."""
    for name, split in splits.items():
        for row in (0, len(split) - 1):
            try:
                read(split, [row], seed=0, workers=0)
            except LockstepError as error:
                what = f"{name} says that it has {len(split):,} samples, but {error.message}"
                return Finding("data set", "FAIL", what, "", "make __len__ tell the truth", blocks=True)
    lengths = " + ".join(f"{len(split):,}" for split in splits.values())
    return Finding("data set", "PASS", f"{lengths} samples; the first and the last of each split can be read")


def check_samples(splits: dict[str, Split], spec: RunSpec) -> Finding:
    """Check that a sample is equal to the bit when it is read again, in this process and in a worker."""
    seed = spec.config.train.seed
    looked_at = 0
    for name, split in splits.items():
        if isinstance(split, ArraySplit):
            continue
        rows = _sampled_rows(split, seed, _REREAD_SAMPLES)
        looked_at += len(rows)
        if found := _first_irreproducible(split, rows, seed, skip=spec.config.data.on_bad == "skip"):
            row, part, reader = found
            what = f"{part} of {name} sample {row} differs when it is read {reader}"
            where = definition_location(type(split.dataset).__getitem__)
            return Finding("samples", "FAIL", f"{spec.config.data.use}: {what}", where, _SEEDING_HINT)
    if not looked_at:
        return Finding("samples", "PASS", "held whole as tensors: nothing is drawn when they are read")
    what = f"{looked_at} samples read twice and by {_WORKERS} workers: equal to the bit"
    return Finding("samples", "PASS", what)


def _sampled_rows(split: MapSplit, seed: int, count: int) -> list[int]:
    """Return the first samples of epoch 0, and the ends of the data set; of iterables what is soon reached."""
    if isinstance(split.dataset, IterableRows):
        return first_rows(split.dataset.shard_lengths, -(-count // 2), 2)
    length = len(split)
    first = EpochOrder(length, seed, 0).indices(0, min(length, count)).tolist()
    return list(dict.fromkeys([*first, 0, length - 1]))


def _first_irreproducible(
    split: MapSplit, rows: list[int], seed: int, *, skip: bool
) -> tuple[int, str, str] | None:
    """Find the first sample that is not reproducible: its row in the data set, its part, and how it was read."""
    before = read(split, rows, seed, workers=0, skip=skip)
    again = read(split, rows[::-1], seed, workers=0, skip=skip)[::-1]
    worked = read(split, rows, seed, workers=_WORKERS, skip=skip)
    for reader, samples in (("a second time", again), ("by a worker process", worked)):
        for row, one, other in zip(rows, before, samples, strict=True):
            if part := different_part(one, other):
                return int(row if split.subset is None else split.subset[row]), part, reader
    return None


def read(split: Split, rows: list[int], seed: int, workers: int, *, skip: bool = False) -> list[Any]:
    """Read samples of epoch 0 as batches of one, the way that training reads them; ``skip`` replaces bad ones."""
    rule = Skipping(len(split), seed) if skip else None
    no_normalisation = Normalisation(torch.float64, None, None)
    cpu = torch.device("cpu")
    split = skipping(split, "samples", rule)
    feed = open_feed(split, no_normalisation, cpu, workers=workers, classes=None, seed=seed)
    work = Work(np.array(rows, np.int64), [1] * len(rows))
    return list(next(iter(feed.fetch(iter([work])))).micro)


def different_part(one: Any, other: Any) -> str | None:
    """Name ``input``, ``target`` or the part of them that is not equal to the bit; None where all is."""
    pairs = zip(named_parts(one, "a value"), named_parts(other, "a value"), strict=True)
    for (name, mine), (_, theirs) in pairs:
        leaves, others = (tree_flatten_with_path(value)[0] for value in (mine, theirs))
        if len(leaves) != len(others):
            return name
        for (path, leaf), (_, twin) in zip(leaves, others, strict=True):
            if not _is_bit_equal(leaf, twin):
                return f"{name}{keystr(path)}"
    return None


def _is_bit_equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return (
            one.shape == other.shape
            and one.dtype == other.dtype
            and _tensor_bytes(one) == _tensor_bytes(other)
        )
    return bool(one == other)


def _tensor_bytes(tensor: torch.Tensor) -> bytes:
    return as_bytes(tensor).cpu().numpy().tobytes()


def read_labels(splits: dict[str, Split], seed: int, *, skip: bool) -> list[Labels]:
    """Read the targets of each split: all where they are held whole, else those of some samples, no bad ones."""
    found = []
    for name, split in splits.items():
        if isinstance(split, ArraySplit):
            y = split.y if split.subset is None else split.y[torch.from_numpy(split.subset)]
        else:
            rows = _sampled_rows(split, seed, _LABEL_SAMPLES)
            samples = read(split, rows, seed, workers=0, skip=skip)
            pairs = [sample for sample in samples if is_pair(sample)]
            targets = [target for _, target in pairs if isinstance(target, torch.Tensor)]
            if len(targets) < len(samples) or len({target.shape for target in targets}) > 1:
                return []
            y = torch.cat(targets)
        found.append(Labels(name, y, whole=isinstance(split, ArraySplit)))
    return found


def check_labels(
    labels: list[Labels], scores: int | None, ignored: int | None = None, *, own_loss: bool = False
) -> Finding:
    """Check whether the range of the targets fits the model's outputs.

    Args:
        labels: of each split.
        scores: outputs of the model, where the loss chooses between them.
        ignored: a label that the loss leaves out.
        own_loss: the user's loss, which may leave out what is not a number.
    """
    labels = [label if ignored is None else _without(label, ignored) for label in labels]
    if not labels:
        return Finding("labels", "NOTE", "targets are not single tensors: their range was not looked at")
    numbers = [label for label in labels if label.values.is_floating_point()]
    if any(not bool(label.values.isfinite().all()) for label in numbers):
        if own_loss:
            return Finding("labels", "NOTE", "some targets are not numbers: the loss has to leave them out")
        return Finding("labels", "FAIL", "a target is not a number", "", "leave such samples out")
    summary = "; ".join(_describe(label) for label in labels)
    if numbers or scores is None:
        return Finding("labels", "PASS", summary)
    low = min(int(label.values.min()) for label in labels)
    high = max(int(label.values.max()) for label in labels)
    if low < 0 or high >= scores:
        what = f"{summary}; the model has {scores} outputs, so that a label is 0 to {scores - 1}"
        advice = "correct the labels, or give the model as many outputs as there are classes"
        return Finding("labels", "FAIL", what, "", advice)
    return _check_missing_classes(labels, summary, scores)


def _without(label: Labels, ignored: int) -> Labels:
    kept = label.values[label.values != ignored]
    return replace(label, values=kept) if kept.numel() else label


def _check_missing_classes(labels: list[Labels], summary: str, scores: int) -> Finding:
    """Note classes without a training sample, where all labels are known."""
    train = next(label for label in labels if label.split == "train")
    missing = sorted(set(range(scores)) - set(train.values.unique().tolist()))
    if train.whole and missing:
        shown = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")  # noqa: PLR2004
        what = f"{summary}; no training sample has the label {shown}, though the model has {scores} outputs"
        return Finding("labels", "NOTE", what)
    return Finding("labels", "PASS", summary)


def _describe(label: Labels) -> str:
    values = label.values
    some = "" if label.whole else f" in the {len(values)} samples looked at"
    if values.is_floating_point() or values.dtype == torch.bool or values.ndim > 1:
        low, high = values.min().item(), values.max().item()
        return f"{label.split} targets {low:.4g} to {high:.4g}{some}"
    classes, counts = values.unique(return_counts=True)
    low, high = int(counts.min()), int(counts.max())
    spread = f"{low:,} to {high:,} samples each" if low < high else f"{low:,} samples each"
    return f"{label.split} labels {int(values.min())} to {int(values.max())}, {len(classes)} classes, {spread}{some}"

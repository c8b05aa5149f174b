"""What is known of one split before the ranks start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SplitInfo:
    """One split, such as ``train`` or ``val``."""

    length: int
    """Samples in this split."""
    files: dict[str, str]
    """Role to the absolute path of an ``.npy`` file: ``x`` and ``y`` (arrays), ``paths`` (uint8 blob),
    ``offsets`` (int64, one more than there are paths) and ``y`` (images), nothing (user); and
    ``bad``, the ``.json`` file of samples that are known to be bad."""
    subset: str | None = None
    """An int64 ``.npy`` file: the rows of ``files`` that belong to this split, ascending; None is all."""
    contents: str = ""
    """For a user's own data: a hash of what the callable returned for this split; every rank must get the same."""
    state: str = ""
    """For image files: a hash of their names, sizes and times; what was decoded of another state is stale."""
    class_counts: tuple[int, ...] | None = None
    """Samples of each class, when targets are classes."""
    shard_lengths: tuple[int, ...] | None = None
    """Of a user's iterables, the samples of each; None: samples have numbers."""
    window: int | None = None
    """Row groups that training has in flight, of a set of shards; None: the order is one permutation of all samples."""

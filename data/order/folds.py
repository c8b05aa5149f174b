"""What of a training set is held out for validation: whole groups, or a share of each class, or both."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from .sample_order import Indices, permute
from .sampling import share_out


def class_folds(classes: NDArray[np.int64], k: int, key: tuple[int, ...]) -> Indices:
    """Deal the samples of one class after another to ``k`` parts, in the order of a permutation.

    Returns:
        The part of each sample, int64 [n]: parts differ by at most one sample, in all and of each class.
    """
    order = permute(np.arange(classes.size, dtype=np.int64), classes.size, key)
    dealt = order[np.argsort(classes[order], kind="stable")]
    parts = np.empty(classes.size, np.int64)
    parts[dealt] = np.arange(classes.size) % k
    return parts


def group_folds(groups: Indices, k: int, key: tuple[int, ...]) -> Indices:
    """Give whole groups to ``k`` parts, the largest first, each to the part that is the smallest then.

    Args:
        groups: the number of each sample's group, int64 [n], from 0 on without a gap.
        k: at most the number of groups.
        key: of the permutation that decides between groups of one size.
    """
    sizes = np.bincount(groups)
    tied = permute(np.arange(sizes.size, dtype=np.int64), sizes.size, key)
    parts = np.empty(sizes.size, np.int64)
    heap = [(0, part) for part in range(k)]
    for group in tied[np.argsort(-sizes[tied], kind="stable")].tolist():
        size, part = heapq.heappop(heap)
        parts[group] = part
        heapq.heappush(heap, (size + int(sizes[group]), part))
    return parts[groups]


def class_group_folds(classes: NDArray[np.int64], groups: Indices, k: int, key: tuple[int, ...]) -> Indices:
    """Give whole groups to ``k`` parts so that each part has a share of every class, as near as it goes.

    The groups with the most uneven classes come first; each goes to the part after which the classes' shares differ
    the least, of equal ones to the smallest.
    """
    names, labels = np.unique(classes, return_inverse=True)
    counts = np.zeros((int(groups.max()) + 1, names.size))
    np.add.at(counts, (groups, labels), 1)
    total = counts.sum(0)
    tied = permute(np.arange(len(counts), dtype=np.int64), len(counts), key)
    parts = np.empty(len(counts), np.int64)
    held = np.zeros((k, names.size))
    for group in tied[np.argsort(-counts[tied].std(1), kind="stable")].tolist():
        tried = held + np.eye(k)[:, :, None] * counts[group]  # [choice, part, class]
        unevenness = np.round((tried / total).std(1).mean(1), 12)
        part = min(range(k), key=lambda one: (unevenness[one], held[one].sum(), one))
        held[part] += counts[group]
        parts[group] = part
    return parts[groups]


def take_classes(classes: NDArray[np.int64], size: int, key: tuple[int, ...]) -> Indices:
    """Choose ``size`` samples, of each class its share: the first of a permutation; ascending."""
    order = permute(np.arange(classes.size, dtype=np.int64), classes.size, key)
    _, labels = np.unique(classes, return_inverse=True)
    dealt = order[np.argsort(labels[order], kind="stable")]
    counts = np.bincount(labels)
    begins = np.cumsum(counts) - counts
    shares = share_out(counts.tolist(), size)
    return np.sort(
        np.concatenate([dealt[at : at + share] for at, share in zip(begins.tolist(), shares, strict=True)])
    )


def take_groups(groups: Indices, size: int, key: tuple[int, ...]) -> Indices:
    """Choose whole groups in the order of a permutation, each that still fits into ``size``; ascending rows.

    There may be fewer than ``size``; asked for as many as were found, it finds the same.
    """
    sizes = np.bincount(groups)
    left = size
    chosen = np.zeros(sizes.size, bool)
    for group in permute(np.arange(sizes.size, dtype=np.int64), sizes.size, key).tolist():
        if sizes[group] <= left:
            chosen[group] = True
            left -= int(sizes[group])
    return np.flatnonzero(chosen[groups]).astype(np.int64)

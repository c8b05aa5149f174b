"""Folds of whole groups and of each class's share: complete, disjoint, and as even as they can be."""

from __future__ import annotations

import numpy as np
import pytest

from lockstep.data.order.folds import class_folds, class_group_folds, group_folds, take_classes, take_groups

KEY = (7, 0)
DRAW = np.random.default_rng(0)
CLASSES = DRAW.choice(4, 203, p=[0.6, 0.25, 0.1, 0.05]).astype(np.int64)
GROUPS = np.unique(DRAW.integers(0, 40, 203), return_inverse=True)[1].astype(np.int64)


@pytest.mark.parametrize("k", [2, 3, 7])
def test_each_fold_has_its_share_of_every_class(k: int) -> None:
    parts = class_folds(CLASSES, k, KEY)
    assert np.ptp(np.bincount(parts, minlength=k)) <= 1
    for label in range(4):
        assert np.ptp(np.bincount(parts[label == CLASSES], minlength=k)) <= 1
    assert not np.array_equal(parts, class_folds(CLASSES, k, (8, 0)))


@pytest.mark.parametrize("k", [2, 3, 7])
def test_no_group_is_cut_and_folds_are_even(k: int) -> None:
    by_group, by_both = group_folds(GROUPS, k, KEY), class_group_folds(CLASSES, GROUPS, k, KEY)
    for parts in (by_group, by_both):
        assert set(parts.tolist()) == set(range(k))
        for group in range(GROUPS.max() + 1):
            assert len(set(parts[group == GROUPS].tolist())) == 1
    assert np.ptp(np.bincount(by_group)) <= np.bincount(GROUPS).min() + 1


def test_folds_by_group_and_class_are_nearer_to_equal_shares_than_by_group_alone() -> None:
    def unevenness(parts: np.ndarray) -> float:
        shares = [
            np.bincount(CLASSES[parts == part], minlength=4) / np.bincount(CLASSES) for part in range(4)
        ]
        return float(np.std(shares, axis=0).mean())

    both = unevenness(class_group_folds(CLASSES, GROUPS, 4, KEY))
    assert both < 0.5 * unevenness(group_folds(GROUPS, 4, KEY))


@pytest.mark.parametrize("size", [1, 10, 100, 202])
def test_a_sample_of_each_class_is_in_proportion(size: int) -> None:
    rows = take_classes(CLASSES, size, KEY)
    assert rows.size == np.unique(rows).size == size
    assert np.array_equal(rows, np.sort(rows))
    exact = np.bincount(CLASSES) * size / CLASSES.size
    assert np.abs(np.bincount(CLASSES[rows], minlength=4) - exact).max() < 1


def test_whole_groups_are_taken_and_what_was_found_is_found_again() -> None:
    for size in range(1, 120, 7):
        rows = take_groups(GROUPS, size, KEY)
        assert rows.size <= size
        assert not set(GROUPS[rows].tolist()) & set(np.delete(GROUPS, rows).tolist())
        assert np.array_equal(take_groups(GROUPS, rows.size, KEY), rows)

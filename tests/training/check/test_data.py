"""A user's data set: samples that cannot be read again, lengths, labels."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

from lockstep.data.sources.splits import MapSplit
from lockstep.training.check.data_checks import Labels, check_labels, check_length, different_part, read


class Rows(torch.utils.data.Dataset[Any]):
    def __init__(self, kind: str, length: int = 20) -> None:
        self.kind, self.length = kind, length
        self.state = np.random.default_rng(0)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, row: int) -> Any:
        if row >= 20:
            raise IndexError(row)
        draw = {
            "torch": lambda: float(torch.rand(())),
            "python": random.random,
            "numpy": np.random.rand,
            "stateful": self.state.random,
            "entropy": lambda: np.random.default_rng().random(),
        }[self.kind]()
        return {"image": torch.full((3,), draw), "mask": torch.ones(2)}, row


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        ("torch", None),
        ("python", None),
        ("numpy", None),
        ("stateful", "input['image']"),
        ("entropy", "input['image']"),
    ],
)
def test_the_part_of_a_sample_that_is_not_reproducible_is_named(kind: str, part: str | None) -> None:
    split = MapSplit(Rows(kind), None)
    one, other = read(split, [3], 0, workers=0), read(split, [3], 0, workers=0)
    assert different_part(one[0], other[0]) == part


def test_a_split_that_ends_before_its_length_says() -> None:
    assert check_length({"train": MapSplit(Rows("torch"), None)}).verdict == "PASS"
    found = check_length({"train": MapSplit(Rows("torch"), None), "val": MapSplit(Rows("torch", 23), None)})
    assert (found.verdict, found.blocks) == ("FAIL", True)
    assert found.what.startswith(
        "val says that it has 23 samples, but sample 22 of the data set raised IndexError"
    )


def test_labels_are_held_against_the_models_outputs() -> None:
    labels = [Labels("train", torch.tensor([0, 1, 1, 3]), whole=True)]
    assert check_labels(labels, 3).verdict == "FAIL"
    missing = check_labels(labels, 4)
    assert missing.verdict == "NOTE"
    assert "no training sample has the label 2" in missing.what
    assert check_labels(labels, None).verdict == "PASS"
    ignoring = [Labels("train", torch.tensor([0, 1, -100, 1]), whole=True)]
    assert check_labels(ignoring, 2).verdict == "FAIL"
    assert check_labels(ignoring, 2, -100).verdict == "PASS"
    assert (
        check_labels([Labels("train", torch.tensor([0.5, float("nan")]), whole=True)], None).verdict == "FAIL"
    )
    assert check_labels([], 3).verdict == "NOTE"

"""Padding to one length: which parts, with what, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lockstep.data.common.errors import TrainingError, UsageError
from lockstep.data.config.sections import PadConfig
from lockstep.data.samples.collation import collate
from lockstep.data.samples.padding import Padding, build_padding
from lockstep.data.samples.sample_source import SampleSource


class Texts:
    """Samples of 2, 3, 4, … tokens; a vector of three numbers is none of them."""

    lengths = (2, 3, 4, 2)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> Any:
        size = self.lengths[row]
        sample = {"ids": list(range(1, size + 1)), "vector": torch.ones(3), "name": str(row)}
        return sample, np.full((size, 2), row)


def _padding(**settings: Any) -> Padding:
    texts = Texts()
    return build_padding(PadConfig(**settings), texts, texts.__getitem__)


def test_the_length_is_that_of_the_longest_of_all_ranks() -> None:
    padding = _padding(multiple_of=3, values={"target": -100, "ids": 9}, mask="mask")
    assert padding.parts == {"input.ids", "target"}
    assert [padding.length(rows) for rows in ([0], [0, 1], [0, 3, 2])] == [3, 3, 6]
    x, y = collate([Texts()[0], Texts()[1]], [0, 1], SampleSource(), pad=(padding, 4))
    assert x["ids"].tolist() == [[1, 2, 9, 9], [1, 2, 3, 9]]
    assert x["mask"].tolist() == [[True, True, False, False], [True, True, True, False]]
    assert x["vector"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert x["name"] == ["0", "1"]
    assert y[0].tolist() == [[0, 0], [0, 0], [-100, -100], [-100, -100]]


def test_one_value_is_put_behind_all_parts_but_those_that_have_their_own() -> None:
    padding = _padding(value=7, values={"target": -100})
    x, y = collate([Texts()[0]], [0], SampleSource(), pad=(padding, 3))
    assert (x["ids"].tolist(), y[0, 2].tolist()) == ([[1, 2, 7]], [-100, -100])


def test_a_fixed_length_needs_no_lengths() -> None:
    class Other(Texts):
        lengths = None

        def __len__(self) -> int:
            return 4

        def __getitem__(self, row: int) -> Any:
            return Texts()[row]

    other = Other()
    padding = build_padding(PadConfig(to=3), other, other.__getitem__)
    assert padding.length([2]) == 3
    with pytest.raises(TrainingError, match=r"data sample 2 has the length 4, and data.pad.to is 3"):
        padding.apply(other[2], 2, 3)
    with pytest.raises(UsageError, match="the others have to know its length"):
        build_padding(PadConfig(), other, other.__getitem__)


def test_a_users_own_function_is_told_the_length() -> None:
    def own(samples: list[Any], pad_to: int) -> Any:
        return len(samples), pad_to

    assert collate([1, 2], [0, 1], SampleSource(), own, pad=(_padding(), 7)) == (2, 7)


def test_lengths_that_lie_are_named() -> None:
    with pytest.raises(TrainingError, match=r"data sample 0 has sequences of 3, 3, and its length is 2"):
        _padding().apply(Texts()[1], 0, 4)

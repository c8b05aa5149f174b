from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lockstep.data.survey.sample_values import sample_values


@pytest.mark.parametrize(
    ("value", "type_", "shape", "low", "high"),
    [
        (3, "int", (), 3, 3),
        (True, "bool", (), True, True),
        (0.5, "float", (), 0.5, 0.5),
        ("cat", "str", (), None, None),
        (None, "NoneType", (), None, None),
        (np.float32(2), "float32", (), 2, 2),
        (np.arange(6, dtype=np.uint8).reshape(2, 3), "uint8", (2, 3), 0, 5),
        (np.zeros((0, 4), np.float32), "float32", (0, 4), None, None),
        (np.array(["a"]), "<U1", (1,), None, None),
        (torch.tensor([[1.0, -2.0]]), "float32", (1, 2), -2, 1),
        (torch.tensor([1.5], dtype=torch.bfloat16), "bfloat16", (1,), 1.5, 1.5),
        (torch.tensor(7), "int64", (), 7, 7),
        (torch.tensor([1 + 2j]), "complex64", (1,), None, None),
        (torch.eye(2).to_sparse(), "float32", (2, 2), None, None),
        (torch.ones(2, requires_grad=True), "float32", (2,), 1, 1),
        ([5, 9, 2], "list", (3,), 2, 9),
        ([], "list", (0,), None, None),
        (Image.new("RGB", (7, 5)), "Image", (), None, None),
    ],
)
def test_a_value_is_described_by_type_shape_and_range(
    value: Any, type_: str, shape: tuple[int, ...], low: float | None, high: float | None
) -> None:
    (_, target) = sample_values((0, value))
    assert target == ("target", type_, shape, low, high, True)


def test_a_number_that_is_none_counts_as_not_finite_and_leaves_the_range() -> None:
    values = torch.tensor([1.0, math.nan, 5.0, -math.inf])
    assert sample_values((values, math.nan)) == [
        ("input", "float32", (4,), 1.0, 5.0, False),
        ("target", "float", (), None, None, False),
    ]


def test_nested_samples_are_described_part_by_part() -> None:
    sample = (
        {"file": "a.png", "image": np.ones((3, 2, 2), np.float32)},
        {"boxes": [[1, 2], [3, 4]], "label": 1},
    )
    assert [(seen.name, seen.type, seen.shape) for seen in sample_values(sample)] == [
        ("input.file", "str", ()),
        ("input.image", "float32", (3, 2, 2)),
        ("target.boxes[0]", "list", (2,)),
        ("target.boxes[1]", "list", (2,)),
        ("target.label", "int", ()),
    ]


def test_what_is_no_pair_is_a_sample() -> None:
    assert [seen.name for seen in sample_values({"x": 1, "y": 2})] == ["sample.x", "sample.y"]
    assert [seen.name for seen in sample_values((np.ones(1), 2, 3))] == [
        "sample[0]",
        "sample[1]",
        "sample[2]",
    ]


def test_a_sample_of_many_parts_is_cut_and_one_that_holds_itself_ends() -> None:
    assert len(sample_values({str(key): key for key in range(1000)})) == 20
    endless: dict[str, Any] = {}
    endless["again"] = endless
    assert [seen.type for seen in sample_values(endless)] == ["dict"]

"""Recordings of one process and of several, and what differs first in them."""

from __future__ import annotations

from typing import Any

import pytest

from lockstep.launcher.check.bit_comparison import BitDifference, compare_bits
from lockstep.launcher.check.verdicts import ComparisonConditions, judge_bits

UNDER = ComparisonConditions(2, "auto", "", "", bits=True)
MODULES = {"0": ["Linear (0)", "torch/nn/linear.py:1"], "1": ["Own (1)", "exp.py:3"]}


def _mark(step: int, kind: str, name: str, part: int = -1, digest: str = "same") -> dict[str, Any]:
    return {"step": step, "kind": kind, "name": name, "part": part, "digest": digest}


def _recording(parts: range, steps: int = 3) -> list[dict[str, Any]]:
    marks = []
    for step in range(steps):
        marks += [_mark(step, "weights", name) for name in ("0.weight", "1.weight")]
        marks += [_mark(step, "sample", f"the input of sample {9 - part}", part) for part in parts]
        marks += [
            _mark(step, kind, name, part)
            for part in parts
            for kind, name in (("enter", "0"), ("leave", "0"), ("leave", "1"), ("leave", "1"))
        ]
        marks += [_mark(step, "gradient", f"the gradient of {name}") for name in ("1.weight", "0.weight")]
    return marks + [_mark(steps, "weights", name) for name in ("0.weight", "1.weight")]


def _change(marks: list[dict[str, Any]], **which: Any) -> None:
    found = [mark for mark in marks if all(mark[key] == value for key, value in which.items())]
    assert found
    for mark in found:
        mark["digest"] = "another"


def test_recordings_are_equal_however_logical_ranks_are_dealt() -> None:
    assert compare_bits(_recording(range(4)), [_recording(range(1)), _recording(range(1, 4))]) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            [{"step": 1, "kind": "leave", "name": "1", "part": 3}, {"step": 1, "kind": "gradient"}],
            BitDifference(1, "", "1", 3, "the gradient of 1.weight"),
        ),
        ([{"step": 2, "kind": "weights", "name": "1.weight"}], BitDifference(1, weight="1.weight")),
        ([{"step": 0, "kind": "weights"}], BitDifference(0, weight="0.weight", before=True)),
        (
            [{"step": 2, "kind": "sample", "part": 2}, {"step": 2, "kind": "enter", "name": "0", "part": 2}],
            BitDifference(2, "the input of sample 7", "0", 2),
        ),
        ([{"step": 1, "kind": "gradient", "name": "the gradient of 0.weight"}],
         BitDifference(1, gradient="the gradient of 0.weight")),
    ],
)  # fmt: skip
def test_the_first_difference_is_found(changes: list[dict[str, Any]], expected: BitDifference) -> None:
    ranks = [_recording(range(2)), _recording(range(2, 4))]
    for change in changes:
        _change(ranks[1], **change)
    assert compare_bits(_recording(range(4)), ranks) == expected


def test_a_call_that_is_missing_or_made_once_more_is_a_difference() -> None:
    ranks = [_recording(range(2)), _recording(range(2, 4))]
    gone = next(number for number, mark in enumerate(ranks[1]) if mark["kind"] == "leave")
    del ranks[1][gone]
    assert compare_bits(_recording(range(4)), ranks) == BitDifference(0, module="0", logical_rank=2)
    ranks[1].insert(gone, _mark(0, "leave", "0", 2))
    ranks[0].append(_mark(2, "leave", "1", 0))
    assert compare_bits(_recording(range(4)), ranks) == BitDifference(2, module="1", logical_rank=0)


def test_a_difference_is_told_with_step_layer_and_parameter() -> None:
    assert judge_bits(None, MODULES, UNDER).verdict == "PASS"
    found = judge_bits(BitDifference(1, "", "1", 3, "the gradient of 1.weight"), MODULES, UNDER)
    assert (found.verdict, found.where) == ("FAIL", "exp.py:3")
    assert found.what == (
        "in step 2 the forward of Own (1) in logical rank 3 is the first to differ;"
        " the gradient of 1.weight differs, too"
    )
    sample = judge_bits(BitDifference(0, "the input of sample 7", "0", 2), MODULES, UNDER)
    assert (sample.where, "in step 1 the input of sample 7 is the first" in sample.what) == ("", True)
    after = judge_bits(BitDifference(1, weight="1.weight"), MODULES, UNDER)
    assert "in step 2 1.weight after the step is the first to differ" in after.what
    before = judge_bits(BitDifference(0, weight="0.weight", before=True), MODULES, UNDER)
    assert "0.weight differs before the first step" in before.what

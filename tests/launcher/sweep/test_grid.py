"""A grid as a user writes it."""

from __future__ import annotations

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.sweep.grid import parse_grid


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("a.b=1e-2,1e-3", ["1e-2", "1e-3"]),
        ("a=0..4", ["0", "1", "2", "3", "4"]),
        ("a=-1..1,7", ["-1", "0", "1", "7"]),
        ("a=[128,64],[64]", ["[128,64]", "[64]"]),
        ("a={b: 1, c: 2},{b: 3}", ["{b: 1, c: 2}", "{b: 3}"]),
        ('a="x,y",z', ['"x,y"', "z"]),
        ("a='x,y' , z", ["'x,y'", "z"]),
        ("a=it's,fine", ["it's", "fine"]),
    ],
)
def test_a_setting_with_several_values_varies(setting: str, values: list[str]) -> None:
    grid = parse_grid([setting, "c=1"])
    assert grid.axes == {setting.partition("=")[0]: values}
    assert grid.fixed == ["c=1"]


@pytest.mark.parametrize("setting", ["a=[128,64]", 'a="1,2"', "a=../x", "a={b: 1, c: 2}", "a=", "a=1..x"])
def test_one_value_stays_one(setting: str) -> None:
    assert parse_grid([setting, "c=1,2"]).fixed == [setting]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["a=4..0"], "a range counts up"),
        (["a=0..5000"], "more than 1,000 values"),
        (["a=0.1..0.5"], "whole numbers"),
        (["a=1,,2"], "a value is missing"),
        (["a=1e-2,0.01"], "listed twice"),
        (["a=1,2", "a=3,4"], "set twice"),
        (["a=1", "a=3,4"], "set twice"),
        (["a=0..99", "b=0..99"], "10,000 points"),
        (["a=1"], "nothing varies"),
        ([], "nothing varies"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(settings: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_grid(settings)


def test_the_last_key_varies_fastest() -> None:
    grid = parse_grid(["x=a,b", "k=9", "y=0..1"])
    assert list(grid.overrides()) == [["k=9", f"x={x}", f"y={y}"] for x in "ab" for y in "01"]

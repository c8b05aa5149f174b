from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from lockstep.training.config.duration import Duration, Interval, Length, parse_duration


class _Section(BaseModel):
    length: Length | None = None
    interval: Interval | None = None
    several: tuple[Length, ...] = ()


@pytest.mark.parametrize(
    ("written", "steps"),
    [
        (500, 500),
        ("500", 500),
        ("500 steps", 500),
        ("1 step", 1),
        ("500steps", 500),
        ("10_000 steps", 10_000),
        ("2 epochs", 60),
        ("1 Epoch", 30),
        ("0.5 epochs", 15),
        ("0.05 epochs", 2),  # 1.5
        ("5 %", 15),
        ("5%", 15),
        (" 0.1 % ", 1),  # 0.3
        ("100%", 300),
        ("33.333333333333 %", 100),
    ],
)
def test_a_duration_is_a_number_of_steps(written: Any, steps: int) -> None:
    assert parse_duration(written).in_steps(30, 300) == steps


def test_a_decimal_is_exactly_what_is_written() -> None:
    # As binary numbers 0.07 * 100 is a little above 7, and would be 8 steps.
    assert parse_duration("7 %").in_steps(1, 100) == 7
    assert parse_duration("0.07 epochs").in_steps(100, 1) == 7
    assert parse_duration("12.5 %").exact_steps(1, 100) == Fraction(25, 2)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("length", "5 parsecs", "must be 500 steps or 2 epochs or 5 %"),
        ("length", "10 minutes", "must be 500 steps or 2 epochs or 5 %"),
        ("interval", "5 %", "must be 500 steps or 2 epochs or 10 minutes"),
        ("interval", "2.5 steps", "must be a whole number of steps"),
        ("length", 0.1, "must be a whole number of steps; 10 % is a share"),
        ("length", "0 epochs", "must be greater than 0"),
        ("length", 0, "must be greater than 0"),
        ("length", "-3", "must be 500 steps"),
        ("length", "101 %", "must be at most 100 %"),
        ("length", True, "must be 500 steps"),
        ("length", [3], "must be 500 steps"),
        ("length", "", "must be 500 steps"),
        ("length", "nan", "must be 500 steps"),
        ("length", "1e3", "must be 500 steps"),
        ("several", ["5 %", "x"], "must be 500 steps"),
    ],
)
def test_what_is_no_duration_is_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _Section.model_validate({key: value})
    [found] = caught.value.errors()
    assert message in found["msg"]
    assert found["loc"][0] == key


def test_minutes_are_no_number_of_steps() -> None:
    interval = parse_duration("10 min")
    assert (interval.amount, interval.unit) == (10, "minutes")
    with pytest.raises(ValueError, match="10 min is not a number of steps"):
        interval.in_steps(30, 300)


def test_it_is_written_as_it_was_given_and_reads_back_the_same() -> None:
    given = {"length": "5 %", "interval": 500, "several": ["1 epoch", 7]}
    section = _Section.model_validate_json(
        '{"length": "5 %", "interval": 500, "several": ["1 epoch", 7]}', strict=True
    )
    assert section.model_dump(mode="json") == given
    assert _Section.model_validate(section.model_dump()) == section
    assert _Section(length=section.length) == _Section(length="5 %")  # type: ignore[arg-type]
    assert isinstance(section.length, Duration)
    assert [str(section.length), str(section.interval)] == ["5 %", "500 steps"]

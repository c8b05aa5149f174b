from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lockstep.training.config.profile_range import profiled_steps
from lockstep.training.config.run_config import LogConfig


@pytest.mark.parametrize(
    ("text", "first", "steps"),
    [
        ("10..20", 0, (9, 20)),
        ("1..1", 0, (0, 1)),
        ("10 .. 20", 100, (9, 20)),
        ("20", 0, (5, 25)),
        ("3", 100, (105, 108)),
    ],
)
def test_steps_are_counted_from_1_and_a_bare_number_leaves_out_the_first(
    text: str, first: int, steps: tuple[int, int]
) -> None:
    assert profiled_steps(text, first) == steps
    assert LogConfig(profile=text).profile == text


def test_a_number_of_yaml_is_taken_and_nothing_is_none() -> None:
    assert LogConfig.model_validate({"profile": 20}).profile == "20"
    assert LogConfig().profile is None


@pytest.mark.parametrize("value", ["", "0", "20..10", "0..3", "ten", "1..", "-3", "1.5", True, [1, 2]])
def test_what_names_no_steps_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="name the steps, as"):
        LogConfig.model_validate({"profile": value})

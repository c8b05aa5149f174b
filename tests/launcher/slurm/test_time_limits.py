"""A time limit has one form, whatever form it is given in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.launcher.slurm.option_types import normalise_time_limit, time_limit_note, time_limit_seconds

TIMES = {
    "4:00:00": "04:00:00", "90min": "01:30:00", "2h": "02:00:00", "1-12:00:00": "1-12:00:00", "1d12h": "1-12:00:00",
    "2h30m": "02:30:00", "45s": "00:00:45", "36h": "1-12:00:00", "1-6": "1-06:00:00", "1-6:30": "1-06:30:00",
    "90": "01:30:00", "10": "00:10:00",
    "unlimited": "UNLIMITED", "2 h": "02:00:00", "100:00:00": "4-04:00:00", "1 day": "1-00:00:00",
}  # fmt: skip


@pytest.mark.parametrize(("text", "normal"), TIMES.items())
def test_time_limits_have_one_form(text, normal):
    assert normalise_time_limit(text) == normal
    assert normalise_time_limit(normal) == normal


@pytest.mark.parametrize(
    "text", ["4:30", "0", "0h", "", " ", "-1h", "1:99:00", "two hours", "1.5h", "1h\n", "9999d"]
)
def test_times_that_are_none_or_mean_two_things_are_refused(text):
    with pytest.raises(ValueError, match=r"must|minutes and seconds"):
        normalise_time_limit(text)


@given(st.integers(1, 3_000 * 86_400))
def test_every_limit_keeps_its_length(seconds):
    assert time_limit_seconds(normalise_time_limit(f"{seconds}s")) == seconds


@pytest.mark.parametrize(
    ("said", "note"),
    [
        ("10", "time = 10 (--time) is 10 minutes, as sbatch reads it"),
        (1, "time = 1 (--time) is 1 minute, as sbatch reads it"),
        ("10min", ""),
        ("0:10:00", ""),
        (None, ""),
        (True, ""),
    ],
)
def test_a_number_without_a_unit_is_noted(said, note):
    assert time_limit_note(said, "--time") == note

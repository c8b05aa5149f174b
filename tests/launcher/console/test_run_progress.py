from __future__ import annotations

import math

import pytest

from lockstep.launcher.console.formats import format_duration, sparkline
from lockstep.launcher.console.run_progress import (
    Pace,
    RunShape,
    Standing,
    bar_line,
    progress_line,
    start_text,
)

SHAPE = RunShape(steps=4690, steps_per_epoch=938, batch_size=64)


def test_a_pace_goes_by_the_last_half_minute_and_the_time_left_by_all_of_it() -> None:
    pace = Pace()
    assert (pace.rate, pace.seconds_left(0.0, 100)) == (None, None)
    pace.see(10.0, 1)
    assert (pace.rate, pace.seconds_left(11.0, 100)) == (None, None)
    for second in range(1, 51):
        pace.see(10.0 + second, 1 + second)
    assert pace.rate == 1.0
    for second in range(1, 51):
        pace.see(60.0 + second, 51 + 3 * second)
    assert pace.rate == 3.0
    assert pace.seconds_left(110.0, 401) == 200 * 100 / 200
    assert pace.seconds_left(130.0, 401) == 200 * 120 / 200  # what an evaluation takes counts
    pace.see(131.0, 5)  # rewound: the ranks began once more
    assert (pace.rate, pace.seconds_left(131.0, 401)) == (None, None)


@pytest.mark.parametrize(
    ("step", "phase", "epoch"),
    [
        (0, "training", 1),
        (937, "training", 1),
        (938, "training", 2),
        (938, "evaluation", 1),
        (4690, "training", 5),
        (4690, "ending", 5),
    ],
)
def test_epochs_are_counted_from_one(step: int, phase: str, epoch: int) -> None:
    assert progress_line(Standing(step, phase), SHAPE).startswith(f"epoch {epoch}/5  step {step:,}/4,690 (")


def test_an_epoch_that_is_cut_short_counts() -> None:
    assert [RunShape(steps, 10, 1).epochs for steps in (1, 10, 11)] == [1, 1, 2]


def test_a_line_has_what_is_known() -> None:
    standing = Standing(1250, "training")
    assert progress_line(standing, SHAPE) == "epoch 2/5  step 1,250/4,690 (26 %)"
    standing.take({"event": "step", "step": 1250, "train/loss": 0.18171, "samples_per_second": 18627.4})
    standing.left = 750.0
    assert progress_line(standing, SHAPE) == (
        "epoch 2/5  step 1,250/4,690 (26 %)  loss 0.1817  18,627 samples/s  0:12:30 left"
    )
    standing.take({"event": "step", "step": 1251, "train/loss": 0.1, "samples_per_second": 2.25})
    assert "loss 0.1000  2.2 samples/s" in progress_line(standing, SHAPE)


@pytest.mark.parametrize(
    ("standing", "text"),
    [
        (Standing(), "starting 4 ranks"),
        (Standing(phase="training"), "first step"),
        (Standing(7, "training", first=7), "first step"),
        (Standing(7, "evaluation", first=7), "evaluating"),
        (Standing(8, "training", first=7), ""),
    ],
)
def test_what_is_waited_for_before_the_first_step_is_said(standing: Standing, text: str) -> None:
    assert start_text(standing, 4) == text


@pytest.mark.parametrize("width", [20, 79, 119])
def test_a_bar_fits_the_width(width: int) -> None:
    standing = Standing(2345, "training", loss=0.5, samples_per_second=1e4, left=59.6)
    line = bar_line(standing, SHAPE, "checkpoint 7%", width, "#-")
    assert len(line) <= width
    if width > 80:
        assert line == (
            "epoch 3/5  loss 0.5000  10,000 samples/s  checkpoint 7%"
            "  ####################--------------------  2,345/4,690  0:01:00"
        )


def test_durations_and_curves() -> None:
    assert [format_duration(seconds) for seconds in (-1, 59.4, 3661, 90_000)] == [
        "0:00:00",
        "0:00:59",
        "1:01:01",
        "1 d 1 h",
    ]
    assert sparkline([7.0, 4.0, math.nan, None, 0.0]) == "█▅  ▁"
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert sparkline([None]) == sparkline([]) == ""

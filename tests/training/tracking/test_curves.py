"""Curves of any length: what a point stands for, and that a long record takes bounded space and loses no spike."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from lockstep.training.tracking.curves import CurveBuilder
from lockstep.training.tracking.run_record import panels, read_record


def build(values: list[float | None], points: int, block: int = 1000):
    builder = CurveBuilder(points)
    for first in range(0, len(values), block):
        part = values[first : first + block]
        builder.extend(range(first + 1, first + 1 + len(part)), part)
    return builder.curve()


@pytest.mark.parametrize("count", [1, 7, 200, 201, 40_001])
def test_each_point_is_mean_least_and_largest_of_its_rows_and_no_row_is_lost(count: int) -> None:
    values = [math.sin(row / 7) + row / count for row in range(count)]
    curve = build(values, 100)
    assert (curve.rows, curve.missing, curve.last) == (count, 0, values[-1])
    assert min(count, 100) <= len(curve.steps) <= 201
    assert curve.counts.sum() == count
    stops = curve.steps.astype(int)
    for first, stop, mean, low, high in zip(
        [0, *stops[:-1]], stops, curve.mean, curve.low, curve.high, strict=True
    ):
        rows = values[first:stop]
        assert mean == pytest.approx(np.mean(rows), abs=1e-12)
        assert (low, high) == (min(rows), max(rows))


def test_what_is_no_number_is_counted_and_left_out() -> None:
    curve = build([1.0, None, 3.0, float("nan"), float("inf")], 2)
    assert (curve.rows, curve.missing) == (5, 3)
    assert np.nanmax(curve.high) == 3.0
    assert np.isnan(build([None], 2).mean).all()


def test_smoothing_is_the_mean_of_the_rows_around() -> None:
    values = [float(row % 5) for row in range(50)]
    curve = build(values, 100)
    assert np.array_equal(curve.smoothed(1), values)
    smooth = curve.smoothed(5)
    assert smooth[2:-2] == pytest.approx(2.0)  # any five rows in turn have this mean
    assert smooth[0] == pytest.approx(1.0)  # of the first three, as far as there are some
    assert build([1.0, None, 2.0], 100).smoothed(3) == pytest.approx([1.0, 1.5, 2.0])


def write_record(folder: Path, *events: dict) -> None:
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps({"time": 1.0, **event}) + "\n" for event in events)
    (folder / "metrics.jsonl").write_text(text)


def step(number: int, **values: object) -> dict:
    return {"event": "step", "epoch": 0, "step": number, **values}


def test_a_long_record_keeps_its_spike_in_a_bounded_number_of_points(tmp_path: Path) -> None:
    losses = [0.5] * 20_000
    losses[12_345] = 9.0
    write_record(tmp_path, *(step(number + 1, **{"train/loss": loss}) for number, loss in enumerate(losses)))
    curve = read_record(tmp_path, 50).curves["train/loss"]
    assert len(curve.steps) <= 101
    assert curve.rows == 20_000
    spike = int(np.argmax(curve.high))
    assert curve.high[spike] == 9.0
    assert curve.steps[spike - 1] < 12_346 <= curve.steps[spike]


def test_a_record_with_damaged_lines_is_read_for_what_is_whole(tmp_path: Path) -> None:
    write_record(
        tmp_path,
        {"event": "start", "step": 0, "world_size": 2},
        step(1, **{"train/loss": 2.0, "note": "text", "lr": 0.1}),
        {"event": "start", "step": 1, "world_size": 3},
        step(2, **{"train/loss": None, "lr": 0.05}),
        {"event": "epoch", "epoch": 0, "step": 2, "train/loss": 7.0, "val/loss": 1.0, "val/count": 9},
    )
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write("{damaged\n[1]\n" + json.dumps(step(3, **{"train/loss": 1.0}))[:-9])
    record = read_record(tmp_path, 100)
    assert record.resumes == [1]
    assert sorted(record.curves) == ["lr", "train/loss", "val/count", "val/loss"]
    assert record.curves["train/loss"].mean[0] == 2.0  # the rows of steps, not that of the epoch
    assert (record.curves["train/loss"].rows, record.curves["train/loss"].missing) == (2, 1)
    assert panels([record]) == {"loss": ["train/loss", "val/loss"], "lr": ["lr"]}
    assert panels([record], ["val/loss"]) == {"loss": ["val/loss"]}
    assert panels([record], ["count"]) == {"count": ["val/count"]}
    assert panels([record], ["other"]) == {}

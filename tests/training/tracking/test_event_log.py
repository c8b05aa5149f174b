from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from lockstep.training.tracking.event_log import EventLog, EventLogTail, read_events, rewind, rows_logged


def test_an_event_is_one_line_with_its_time_and_kind(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "metrics.jsonl")
    log.write("epoch", epoch=0, **{"train/loss": 0.5})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert event.pop("time") > 1.6e9
    assert event == {"event": "epoch", "epoch": 0, "train/loss": 0.5}
    log.close()


def test_what_is_no_number_is_null_because_json_has_no_nan(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "metrics.jsonl")
    log.write("step", a=math.nan, b=math.inf, c=-math.inf, d=1e300)
    log.close()
    (event,) = read_events(tmp_path / "metrics.jsonl")
    assert [event[key] for key in "abcd"] == [None, None, None, 1e300]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_a_line_that_is_being_written_is_not_read_yet(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "start"}\n{"event": "st')
    assert list(read_events(path)) == [{"event": "start"}]
    assert list(read_events(tmp_path / "nothing.jsonl")) == []


def test_a_log_goes_on_where_an_earlier_one_ended(tmp_path: Path) -> None:
    for step in (1, 2):
        log = EventLog(tmp_path / "metrics.jsonl")
        log.write("step", step=step)
        log.close()
    assert [event["step"] for event in read_events(tmp_path / "metrics.jsonl")] == [1, 2]


def test_other_ranks_write_nothing_and_closing_twice_is_harmless(tmp_path: Path) -> None:
    silent = EventLog(None)
    silent.write("step", step=1)
    silent.close()
    log = EventLog(tmp_path / "metrics.jsonl")
    log.close()
    log.close()
    log.write("step", step=1)
    assert (tmp_path / "metrics.jsonl").read_text() == ""


def test_what_a_power_cut_left_of_a_record_is_dropped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = [json.dumps({"time": 0, "event": "step", "step": step}).encode() + b"\n" for step in range(1, 6)]
    path.write_bytes(
        whole[0] + b"\0" * 40 + b"\n" + whole[1] + b'{"event": "st\n' + b"7\n" + b"".join(whole[2:])
    )
    assert [event["step"] for event in read_events(path)] == [1, 2, 3, 4, 5]
    assert [event["step"] for event in EventLogTail(path).read()] == [1, 2, 3, 4, 5]
    assert rewind(path, 3, 0) == 3
    assert path.read_bytes() == b"".join(whole[:3])
    assert rewind(path, 3, 0) == 0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_that_it_ended_is_not_said_of_a_run_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = EventLog(path, lambda: None)
    log.write("epoch", epoch=0, step=3)
    log.write("early_stop", step=3)
    log.write("end", step=3)
    log.close()
    assert rewind(path, 3, 1) == 0
    assert [event["event"] for event in read_events(path)] == ["epoch"]


@pytest.mark.parametrize(
    ("state", "steps", "rows"),
    [
        ({"step": 10, "epoch": 1, "epoch_step": 0, "pending": False}, 20, 1),
        ({"step": 14, "epoch": 1, "epoch_step": 4, "pending": False}, 20, 1),
        ({"step": 14, "epoch": 1, "epoch_step": 4, "pending": False}, 14, 2),
        ({"step": 14, "epoch": 1, "epoch_step": 4, "pending": True}, 14, 1),
        ({"step": 20, "epoch": 2, "epoch_step": 0, "pending": False}, 20, 2),
    ],
)
def test_an_epoch_that_max_steps_cut_short_has_its_row(state: dict[str, Any], steps: int, rows: int) -> None:
    assert rows_logged(state, steps) == rows

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from lockstep.training.tracking.event_log import (
    EventLog,
    EventLogTail,
    events_backwards,
    parse_event,
    read_events,
)
from lockstep.training.tracking.rewinding import rewind, rows_logged
from lockstep.training.tracking.rows import last_row_number


def test_an_event_is_one_line_with_its_time_and_kind(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "metrics.jsonl")
    log.write("epoch", epoch=0, **{"train/loss": 0.5})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    event = json.loads(line)
    assert event.pop("time") > 1.6e9
    assert event == {"event": "epoch", "epoch_number": 1, "epoch": 0, "train/loss": 0.5}
    log.close()


def test_what_is_no_number_is_null_because_json_has_no_nan(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "metrics.jsonl")
    log.write("step", step=1, a=math.nan, b=math.inf, c=-math.inf, d=1e300)
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


NO_EVENTS = [
    b"7",
    b"[]",
    b"null",
    b'"event"',
    b"{}",
    b'{"event": 3}',
    b'{"event": ["step"]}',
    b'{"event": "step"}',
    b'{"event": "step", "step": "x"}',
    b'{"event": "step", "step": null}',
    b'{"event": "step", "step": true}',
    b'{"event": "step", "step": 1.5}',
    b'{"event": "epoch", "step": 3}',
    b'{"event": "epoch", "step": 3, "epoch": [1]}',
    b'{"event": "checkpoint", "step": {}}',
    b"[" * 5000,
    b'{"event": "step", "step": ' + b"9" * 5000 + b"}",
    b"\xff\xfe",
    b"",
]


@pytest.mark.parametrize("line", NO_EVENTS, ids=range(len(NO_EVENTS)))
def test_a_line_that_is_json_but_no_event_is_passed_over_by_every_reader(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = [json.dumps({"time": 0, "event": "step", "step": step}).encode() + b"\n" for step in (1, 2, 3)]
    path.write_bytes(whole[0] + line + b"\n" + whole[1] + line + b"\n" + whole[2])
    assert [event["step"] for event in read_events(path)] == [1, 2, 3]
    assert [event["step"] for event in EventLogTail(path).read()] == [1, 2, 3]
    assert [event["step"] for event in events_backwards(path)] == [3, 2, 1]
    assert last_row_number(path) == 6
    assert rewind(path, 2, 0) == 2
    assert path.read_bytes() == b"".join(whole[:2])


def naive_rewind(lines: list[bytes], step: int, epoch: int) -> tuple[list[bytes], int]:
    """Every line parsed, from the first on."""
    kept: list[bytes] = []
    lost = 0
    for line in lines:
        event = parse_event(line)
        over = event.get("event") in ("end", "early_stop") or event.get("step", 0) > step
        if not line.endswith(b"\n") or over or (event.get("event") == "epoch" and event["epoch"] >= epoch):
            break
        kept += [line] if event else []
        lost += not event
    return kept, lost


def random_record(draw: random.Random, steps: int) -> list[bytes]:
    """A run's lines: steps now and then, epochs of 7 steps, reports of checkpoints that may be late, and damage."""
    lines = [json.dumps({"time": 0.5, "event": "start", "run": "r"}).encode() + b"\n"]
    late: list[bytes] = []
    for step in range(1, steps + 1):
        events = [
            ("step", {"epoch": (step - 1) // 7, "filling": "x" * draw.randrange(200)})
        ] * draw.randrange(2)
        events += [("epoch", {"epoch": step // 7 - 1})] * (step % 7 == 0)
        for kind, more in events:
            lines.append(json.dumps({"time": 1.5, "event": kind, "step": step, **more}).encode() + b"\n")
        if draw.random() < 0.1:
            late.append(json.dumps({"time": 2, "event": "checkpoint", "step": step}).encode() + b"\n")
        if late and draw.random() < 0.3:
            lines.append(late.pop())
        if draw.random() < 0.01:
            lines.append(draw.choice([*NO_EVENTS[:10], b"\0" * 300]) + b"\n")
    return lines


def test_what_an_attempt_that_lives_on_writes_goes_into_the_old_record(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    line = b'{"time": 0.5, "event": "step", "step": 1, "epoch": 0}\n'
    path.write_bytes(line)
    with path.open("ab") as living:
        assert rewind(path, 1, 0, anew=True) == 0
        living.write(line)
    assert path.read_bytes() == line


@pytest.mark.parametrize("seed", range(3))
def test_a_long_record_is_cut_where_reading_every_line_would_cut_it(tmp_path: Path, seed: int) -> None:
    draw, path = random.Random(seed), tmp_path / "metrics.jsonl"
    lines = random_record(draw, 4000)
    lines += [b'{"time": 3, "event": "end"}\n'] * draw.randrange(2) + [b'{"time": 3, "ev'] * draw.randrange(2)
    for step in (-1, 0, 7, 8, 4000, *(draw.randrange(4000) for _ in range(6))):
        for epoch in {step // 7, step // 7 + (step % 7 == 0)}:
            path.write_bytes(b"".join(lines))
            kept, lost = naive_rewind(lines, step, epoch)
            assert rewind(path, step, epoch, anew=draw.random() < 0.5) == lost
            assert path.read_bytes() == b"".join(kept)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("seed", range(4))
def test_backwards_a_record_is_the_same(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"".join(random_record(random.Random(seed), 3000)) + b'{"time": 3, "ev')
    events = list(read_events(path))
    assert list(events_backwards(path)) == events[::-1]
    rows = [event for event in events if event["event"] == "epoch"]
    assert list(events_backwards(path, ("epoch",))) == rows[::-1]
    near = list(events_backwards(path, reach=50_000))
    assert near == events[::-1][: len(near)]
    assert 50 < len(near) < len(events) / 2
    tail = list(EventLogTail(path, 50_000).read())
    assert tail == near[::-1]
    assert list(events_backwards(tmp_path / "nothing")) == []


def test_a_line_that_is_longer_than_any_event_is_passed_over_backwards(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    one, two = (json.dumps({"time": 0, "event": "step", "step": step}).encode() + b"\n" for step in (1, 2))
    path.write_bytes(one * 3 + b"\0" * (5 << 20) + b"\n" + two)
    assert [event["step"] for event in events_backwards(path)] == [2, 1, 1, 1]


def test_that_it_ended_is_not_said_of_a_run_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = EventLog(path, lambda: None)
    log.write("epoch", epoch=0, step=3)
    log.write("early_stop", step=3)
    log.write("end", step=3)
    log.close()
    assert rewind(path, 3, 1) == 0
    assert [event["event"] for event in read_events(path)] == ["epoch"]


def test_that_ranks_have_diverged_is_said_of_a_run_that_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = EventLog(path, lambda: None)
    for step in range(1, 10):
        log.write("step", step=step, epoch=0)
    log.write("diverged", step=9)
    log.write("diverged_rank", step=9)
    log.close()
    with path.open("ab") as file:
        file.write(b'{"time": 3, "event": "diverged"')  # cut short
    for resumed in (6, 4, -1):
        assert rewind(path, resumed, 0, anew=True) == 0
        steps = [event["step"] for event in read_events(path) if event["event"] == "step"]
        assert steps == list(range(1, resumed + 1))
        log = EventLog(path, lambda: None)
        for step in range(max(resumed, 0) + 1, 8):  # they come after it, and are before it
            log.write("step", step=step, epoch=0)
        log.close()
        assert [e["event"] for e in read_events(path) if e["step"] == 9] == ["diverged", "diverged_rank"]
    assert len(path.read_bytes().splitlines()) == 9


@pytest.mark.parametrize("pending", [True, False])
def test_an_evaluation_that_is_still_to_come_is_cut(tmp_path: Path, *, pending: bool) -> None:
    path = tmp_path / "metrics.jsonl"
    log = EventLog(path, lambda: None)
    for step in (2, 4, 6):
        log.write("step", step=step, epoch=0)
        log.write("evaluation", step=step, epoch=0)
    log.close()
    assert rewind(path, 4, 0, pending=pending) == 0
    assert [event["step"] for event in read_events(path) if event["event"] == "evaluation"] == (
        [2] if pending else [2, 4]
    )
    assert last_row_number(path) == (8 if pending else 9)


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


def _steps(path: Path) -> list[tuple[str, int]]:
    return [(event["event"], event["step"]) for event in read_events(path)]


def test_a_rank_that_takes_over_writes_what_the_one_before_it_has_not_come_to(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first, heir = EventLog(path), EventLog(path, writes=False)
    for log in (first, heir):
        log.write("step", step=1)
    heir.forget_held()  # the first one has begun the next step
    for log in (first, heir):
        log.write("step", step=2)
    heir.write("epoch", epoch=0, step=2)
    assert _steps(path) == [("step", 1), ("step", 2)]
    first.close()
    with path.open("a") as file:
        file.write('{"time": 1, "event": "epo')
    heir.take_over()
    heir.take_over()
    heir.write("step", step=3)
    assert _steps(path) == [("step", 1), ("step", 2), ("epoch", 2), ("step", 3)]
    heir.close()


def test_a_rank_that_takes_over_writes_nothing_again_that_the_one_before_it_was_ahead_with(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.jsonl"
    first, heir = EventLog(path), EventLog(path, writes=False)
    first.write("step", step=2)
    first.write("checkpoint", step=2)
    first.write("note", step=2, message="this")
    first.close()
    heir.take_over()
    heir.write("step", step=2)
    heir.write("note", step=2, message="that")
    heir.write("note", step=2, message="this")
    heir.write("checkpoint", step=2)
    heir.write("step", step=4)
    kinds = ["step", "checkpoint", "note", "note", "checkpoint", "step"]
    assert [event["event"] for event in read_events(path)] == kinds
    assert [event.get("message") for event in read_events(path)][2:4] == ["this", "that"]
    heir.close()


def test_the_same_change_of_processes_is_told_of_twice_where_it_was_made_twice(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first, heir = EventLog(path), EventLog(path, writes=False)
    change = {"step": 3, "processes": 3, "before": 2}
    for log in (first, heir):
        log.write("world", **change)
    first.close()
    heir.take_over()
    assert _steps(path) == [("world", 3)]
    heir.write("world", step=3, processes=2, before=3, died=[0])
    heir.write("world", **change)
    assert [event["processes"] for event in read_events(path)] == [3, 2, 3]
    heir.close()

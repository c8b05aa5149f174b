"""What a tracker is given of a record, and when it is told to forget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo
from lockstep.training.config.run_config import RunConfig, RunSpec
from lockstep.training.tracking import feeder
from lockstep.training.tracking.event_log import parse_event
from lockstep.training.tracking.feeder import TrackerFeed
from lockstep.training.tracking.rows import Row
from lockstep.training.tracking.tracker import TrackedRun, Tracker
from tests.helpers.launch import WATCHDOG
from tests.helpers.wandb_records import logged_rows


class Recorder(Tracker):
    """Records its calls; has the rows below ``first_wanted`` already."""

    def __init__(self, first_wanted: int = 0, *, can_rewind: bool = True) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.first_wanted = first_wanted
        self.can_rewind = can_rewind

    def begin(self, run: TrackedRun) -> int:
        self.calls.append(("begin", run.name, run.id, run.config.tracking))
        return self.first_wanted

    def rewind(self, last_kept: int) -> int:
        self.calls.append(("rewind", last_kept))
        return last_kept + 1 if self.can_rewind else self.first_wanted

    def rows(self, rows: Sequence[Row]) -> None:
        self.calls.append(("rows", *(row.number for row in rows)))

    def pictures(self, step: int, pictures: Mapping[str, Path]) -> None:
        self.calls.append(("pictures", step, *(f"{name}={path.name}" for name, path in pictures.items())))

    def end(self, exit_status: int) -> str | None:
        self.calls.append(("end", exit_status))
        return "a warning"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as far as the feeder looks at it."""
    facts = DatasetInfo("own", "user", SplitInfo(9, {}), None, (7,), None, 2, None, (), None, None)
    spec = RunSpec("w", RunConfig(), tmp_path, facts, "cpu", "1d1d1d1d")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "spec.json").write_text(json.dumps(spec.to_json()))
    return folder


def log(run: Path, *events: tuple[str, int], **values: Any) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        for event, step in events:
            document = {"time": 5.0, "event": event, "epoch": 0, "step": step, "train/loss": 0.5, **values}
            file.write(json.dumps(document) + "\n")


def calls_of(run: Path, tracker: Recorder, last_kept: int) -> list[tuple[Any, ...]]:
    """What a tracker is called with between ``begin`` and ``end``."""
    feed = TrackerFeed(run, tracker, last_kept)
    feed.take()
    feed.end(0)
    assert (tracker.calls[0], tracker.calls[-1]) == (BEGIN, ("end", 0))
    return tracker.calls[1:-1]


BEGIN = ("begin", "w", "1d1d1d1d", ("wandb",))


def test_a_tracker_gets_rows_as_they_are_logged_and_nothing_of_a_run_that_never_started(run: Path) -> None:
    tracker = Recorder()
    feed = TrackerFeed(run, tracker, -1)
    assert (feed.take(), feed.end(1), tracker.calls) == (0, None, [])
    log(run, ("start", 0), ("step", 5), ("step", 9), ("epoch", 9))
    assert feed.take() == 4
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"time": 1.0, "event": "step", "st')
    assert feed.take() == 0
    with (run / "metrics.jsonl").open("a") as file:
        file.write('ep": 12}\n')
    assert feed.take() == 1
    assert feed.end(0) == "a warning"
    assert tracker.calls == [BEGIN, ("rows", 10, 18, 19), ("rows", 24), ("end", 0)]


@pytest.mark.parametrize(
    ("has", "can_rewind", "calls"),
    [
        (0, True, [("rows", 10, 20, 30)]),
        (11, True, [("rows", 20, 30)]),
        (21, True, [("rows", 30)]),
        (25, True, [("rewind", 20), ("rows", 30)]),
        (31, True, [("rewind", 20), ("rows", 30)]),
        (31, False, [("rewind", 20)]),
    ],
)
def test_what_came_after_the_checkpoint_is_forgotten_or_not_sent_again(
    run: Path, has: int, calls: list[tuple[Any, ...]], *, can_rewind: bool
) -> None:
    log(run, ("step", 5), ("step", 10), ("step", 15))
    assert calls_of(run, Recorder(has, can_rewind=can_rewind), last_kept=20) == calls


@pytest.mark.parametrize("first_wanted", [2 * 12_345, 2 * 12_345 + 1, 2 * 12_346, 2 * 14_999 + 1, 40_000])
def test_of_a_long_record_only_what_is_lacking_is_read(
    run: Path, first_wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(run, *(("epoch" if place % 2 else "step", place // 2) for place in range(30_000)))
    parsed: list[bytes] = []

    def parse(line: bytes) -> dict[str, Any]:
        parsed.append(line)
        return parse_event(line)

    monkeypatch.setattr(feeder, "parse_event", parse)
    monkeypatch.setattr(feeder, "_AT_ONCE", 10)
    tracker = Recorder(first_wanted)
    feed = TrackerFeed(run, tracker, sys.maxsize - 1)
    while feed.take():
        pass
    feed.end(0)
    rows = [number for name, *numbers in tracker.calls[1:-1] for number in numbers]
    assert rows == list(range(first_wanted, 30_000))
    near = 1_000  # 65,536 bytes of lines of 87 bytes, and what is read at once
    assert len(parsed) <= len(rows) + near


def test_a_run_that_starts_again_without_a_checkpoint_has_all_its_rows_forgotten(run: Path) -> None:
    log(run, ("step", 5))
    assert calls_of(run, Recorder(11), last_kept=-1) == [("rewind", -1), ("rows", 10)]


def test_pictures_come_between_the_rows_that_they_were_logged_between_and_once(run: Path) -> None:
    log(run, ("step", 5), ("step", 9))
    log(run, ("pictures", 9), pictures={"curves": "report/curves.png"})
    log(run, ("epoch", 9))
    expected = [("rows", 10, 18), ("pictures", 9, "curves=curves.png"), ("rows", 19)]
    assert calls_of(run, Recorder(), -1) == expected
    assert calls_of(run, Recorder(20), sys.maxsize) == []


DAMAGED = [
    b'{"time": 5.0, "event": "st\n',
    b"\xff\xfe\x00\n",
    b'["step"]\n',
    b'{"event": "step"}\n',
    b'{"event": "step", "step": "7"}\n',
    b'{"event": "step", "step": 7, "time": null}\n',
    b'{"event": "pictures", "step": 7}\n',
    b'{"event": "pictures", "pictures": {"a": "b"}}\n',
]


@pytest.mark.parametrize("line", DAMAGED)
def test_a_damaged_line_is_stepped_over(run: Path, line: bytes) -> None:
    log(run, ("step", 5))
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(line)
    log(run, ("step", 9))
    assert calls_of(run, Recorder(), -1) in ([("rows", 10, 18)], [("rows", 10), ("rows", 18)])


def feed_by_hand(run: Path, tracker: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "lockstep.training.tracking.feeder", str(run), tracker],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=WATCHDOG,
    )


@pytest.fixture
def pictured(run: Path) -> Path:
    """A run folder with a picture in its record."""
    (run / "report").mkdir()
    Image.new("RGB", (3, 2), (255, 0, 0)).save(run / "report" / "red.png")
    log(run, ("step", 5))
    log(run, ("pictures", 5), pictures={"red": "report/red.png"})
    log(run, ("epoch", 5), **{"val/loss": 0.25})
    return run


def test_wandb_records_pictures_with_the_row_that_follows(pictured: Path) -> None:
    done = feed_by_hand(pictured, "wandb", WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
    step, epoch = logged_rows(pictured)
    assert (step["_step"], epoch["_step"], epoch["val/loss"]) == (10, 11, 0.25)
    (picture,) = pictured.glob("wandb/offline-run-*/files/media/images/red_*.png")
    with Image.open(picture) as image:
        assert image.size == (3, 2)


def test_tensorboard_shows_rows_and_pictures_and_is_written_anew_each_time(pictured: Path) -> None:
    for _ in range(2):
        done = feed_by_hand(pictured, "tensorboard")
        assert done.returncode == 0, done.stderr
    assert len(list((pictured / "tensorboard").iterdir())) == 1
    events = EventAccumulator(str(pictured / "tensorboard"))
    events.Reload()
    (picture,) = events.Images("red")
    assert (picture.step, picture.width, picture.height) == (5, 3, 2)
    assert picture.encoded_image_string == (pictured / "report" / "red.png").read_bytes()
    (loss,) = events.Scalars("val/loss")
    assert (loss.step, loss.value, loss.wall_time) == (5, 0.25, 5.0)


@pytest.mark.parametrize(
    ("code", "warning"),
    [
        ("def make():\n    return object()\n", "has no begin, rewind, rows, pictures, end"),
        ("make = 5\n", "is int, which cannot be called"),
        ("1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_a_tracker_of_a_users_own_that_is_none_is_told_in_one_line(
    run: Path, code: str, warning: str
) -> None:
    (run.parent / "own_tracker.py").write_text(code)
    done = feed_by_hand(run, "./own_tracker.py:make")
    assert done.returncode == 3
    assert warning in done.stderr.splitlines()[-1]


NOTES_ITS_TEMPORARY_FOLDER = """
import os, signal, sys, tempfile

class Own:
    def begin(self, run):
        kept = tempfile.mkdtemp()
        print(os.path.dirname(kept), os.listdir(os.path.dirname(kept)) == [os.path.basename(kept)])
        sys.stdout.flush()
        if "DIE" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0
    def end(self, exit_status):
        return None
    rewind = rows = pictures = lambda *_: None
"""


def test_temporary_files_are_the_runs_and_what_a_killed_feeder_leaves_goes_with_the_next(run: Path) -> None:
    (run.parent / "own.py").write_text(NOTES_ITS_TEMPORARY_FOLDER)
    log(run, ("step", 5))
    killed = feed_by_hand(run, "./own.py:Own", DIE="1")
    (left,) = (path for path in run.iterdir() if path.is_dir())
    assert (killed.returncode, killed.stdout) == (-9, f"{left} True\n")
    assert len(list(left.iterdir())) == 1
    done = feed_by_hand(run, "./own.py:Own")
    assert (done.returncode, done.stdout) == (0, f"{left} True\n"), done.stderr
    assert not left.exists()
    left.write_text("no folder can be made here")
    done = feed_by_hand(run, "./own.py:Own", TMPDIR=str(run.parent))
    assert (done.returncode, done.stdout.split()[0]) == (0, str(run.parent)), done.stderr

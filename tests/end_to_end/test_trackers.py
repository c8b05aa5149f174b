"""TensorBoard and a user's own tracker beside a real run that is killed and resumed; and trackers that are no help."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers.launch import LAUNCH, Launch, run_command, run_folder
from tests.helpers.user_project import KILLED_LOSS

SINK = """
import json, os, signal, sys
from pathlib import Path

with Path(__file__).with_name("imported").open("a") as file:
    file.write(sys.orig_argv[-3] + "\\n")

class Sink:
    def begin(self, run):
        self.file = run.folder / "sink.jsonl"
        killed = run.folder / "killed"
        if "KILL_FEEDER" in os.environ and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self.note("begin", run.name)
        return max((number for number, _ in self.held()), default=-1) + 1

    def rewind(self, last_kept):
        self.note("rewind", last_kept)
        kept = [row for row in self.held() if row[0] <= last_kept]
        self.file.write_text("".join(json.dumps(row) + "\\n" for row in kept))
        return last_kept + 1

    def rows(self, rows):
        with self.file.open("a") as file:
            file.writelines(json.dumps([row.number, dict(row.values)]) + "\\n" for row in rows)

    def pictures(self, step, pictures):
        self.note("pictures", step)

    def end(self, exit_status):
        self.note("end", exit_status)

    def held(self):
        text = self.file.read_text() if self.file.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def note(self, *call):
        with self.file.with_name("calls.jsonl").open("a") as file:
            file.write(json.dumps(call) + "\\n")
"""
NO_HELP = """
import time

class Hangs:
    def begin(self, run):
        return 0
    def rows(self, rows):
        time.sleep(100_000)
    rewind = pictures = end = rows

class Raises(Hangs):
    def rows(self, rows):
        raise RuntimeError("the disk of the sink is full")
"""


def _logged(run: Path, *kinds: str) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [event for event in events if event["event"] in kinds]
    return [{key: value for key, value in row.items() if key not in ("time", "event")} for row in rows]


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _assert_in_tensorboard(run: Path) -> None:
    """Each row of the record is there, once."""
    (file,) = (run / "tensorboard").iterdir()
    events = EventAccumulator(str(file))
    events.Reload()
    for tag, kind, key in (
        ("train/loss", "step", "train/loss"),
        ("train/loss_epoch", "epoch", "train/loss"),
        ("val/loss", "epoch", "val/loss"),
    ):
        rows = [(row["step"], pytest.approx(row[key])) for row in _logged(run, kind)]
        assert [(event.step, event.value) for event in events.Scalars(tag)] == rows


@pytest.mark.exhaustive
def test_a_run_that_was_killed_and_resumed_is_once_in_tensorboard_and_in_a_users_own_tracker(
    launch: Launch, own: Path
) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + KILLED_LOSS)
    (own / "sink.py").write_text(SINK)
    (own / "own.yaml").write_text(
        (own / "own.yaml").read_text() + "tracking: [tensorboard, './sink.py:Sink']\n"
    )
    settings = ("loss.use=./own.py:killed", "checkpoint.every_steps=10", "log.every_steps=4")
    killed = launch("train", "own.yaml", *settings, "--name", "w", cwd=own, env={"KILL_AT": "53"})
    assert killed.status == 4
    run = run_folder("w")
    first = _logged(run, "step", "epoch")
    assert first[-1]["step"] > 40  # logged after the checkpoint that is resumed from
    assert [row for _, row in _lines(run / "sink.jsonl")] == first
    _assert_in_tensorboard(run)
    result = launch("resume", "w", cwd=own, env={"KILL_FEEDER": "1"})
    assert (result.status, "warning" in result.err) == (0, False)
    assert (run / "killed").exists(), "the feeder that has sent everything is the second one"
    rows = _logged(run, "step", "epoch")
    assert [row for _, row in _lines(run / "sink.jsonl")] == rows
    _assert_in_tensorboard(run)
    calls = _lines(run / "calls.jsonl")
    assert [name for name, _ in calls] == ["begin", "end", "begin", "rewind", "end"]
    assert [value for name, value in calls if name == "end"] == [4, 0]
    (kept,) = (value for name, value in calls if name == "rewind")
    assert kept < 2 * first[-1]["step"]
    assert set((own / "imported").read_text().split()) == {str(run)}  # in feeders only
    assert not (run / "wandb").exists()
    assert (run / "attempt-2" / "sink.py-Sink.log").exists()


IMPATIENT = [
    sys.executable,
    "-P",
    "-c",
    "import lockstep.training.tracking.feeder_processes as feed; feed.FINISH_SECONDS = 6\n" + LAUNCH[-1],
]


def test_trackers_that_hang_raise_or_are_not_there_cost_one_line_each_and_no_row(own: Path) -> None:
    (own / "no_help.py").write_text(NO_HELP)
    names = "[./no_help.py:Hangs, ./no_help.py:Raises, ./no_help.py:Absent, tensorboard]"
    done = run_command(
        [*IMPATIENT, "train", "own.yaml", f"tracking={names}", "--name", "w", "--cpu", "1"],
        cwd=own,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert [line.partition(" ")[2].partition(":")[0] for line in warnings] == ["./no_help.py"] * 3
    assert "Absent" in warnings[2]
    assert "has no 'Absent'" in warnings[2]
    run = run_folder("w")
    assert "the disk of the sink is full" in (run / "attempt-1" / "no_help.py-Raises.log").read_text()
    assert len(_logged(run, "epoch")) == 2
    _assert_in_tensorboard(run)


@pytest.mark.exhaustive
def test_a_run_that_tracks_nothing_starts_no_feeder(launch: Launch, own: Path) -> None:
    result = launch("train", "own.yaml", "tracking=[]", "--name", "w", "--cpu", "1", cwd=own)
    assert result.status == 0, result.err
    run = run_folder("w")
    assert list(run.glob("[!.]*.lock")) == []
    assert sorted(path.name for path in (run / "attempt-1").glob("*.log")) == ["agent.log", "rank-0.log"]

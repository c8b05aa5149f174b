"""Evaluations by the supervisor's clock: the step that it asks for is evaluated, within an epoch and at its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lockstep.training.loop.train_loop import TrainLoop
from lockstep.training.rank.control_page import ControlPage, Horizon, RankControl
from lockstep.training.session.build import build_training
from lockstep.training.tracking.event_log import EventLog
from tests.helpers.sessions import open_session

SETTINGS = ["data.args={n: 40, m: 11}", "data.batch_size=20", "train={epochs: 3, eval_every: 9 minutes}"]


@pytest.mark.parametrize("step", [3, 4])
def test_the_step_that_the_clock_asks_for_is_evaluated(own: Path, tmp_path: Path, step: int) -> None:
    page = ControlPage(tmp_path / "page", 1)
    horizon = Horizon(page)
    horizon.raise_horizon(step)
    assert horizon.request_evaluation() == step
    horizon.raise_horizon(100)
    training = build_training(open_session(own / "own.yaml", SETTINGS))
    events = EventLog(tmp_path / "metrics.jsonl")
    TrainLoop(training, tmp_path, events, control=RankControl(page, 0)).run()
    events.close()
    rows = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    found = [(row["event"], row["step"]) for row in rows if "val/loss" in row]
    assert found == [("epoch" if step == 4 else "evaluation", step), ("epoch", 6)]

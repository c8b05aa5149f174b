from __future__ import annotations

import gzip
import json
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.launcher.console.event_notes import profile_rows
from lockstep.training.loop.profiler import PHASES, Profiler, profile_table
from lockstep.training.session.build import build_training
from tests.helpers.sessions import open_session


def _steps(own: Path, asked: str, count: int, slow: float = 0.0) -> tuple[list[Any], Any]:
    """Take steps as the loop does, with batches that come slowly."""
    training = build_training(open_session(own / "own.yaml", []))
    session, tables, done = training.session, list[Any](), [0]
    profiler = Profiler(asked, 0, session.group, training.stepper, own)

    def batches() -> Any:
        for batch in islice(session.train_feed.fetch(session.train_work(0, 0)), count):
            time.sleep(slow)
            yield batch

    for batch in profiler.steps(batches(), lambda: done[0], tables.append):
        training.stepper.run(batch, 31, 31)
        done[0] += 1
    profiler.finish(done[0], tables.append)
    return tables, training


def test_a_profile_tells_where_the_time_goes_and_leaves_nothing_behind(own: Path) -> None:
    backward = torch.autograd.backward
    tables, training = _steps(own, "3..5", 8, slow=0.02)
    (table,) = tables
    assert (table["first"], table["last"], list(table["milliseconds"])) == (3, 5, list(PHASES))
    milliseconds = table["milliseconds"]
    assert milliseconds["data"] >= 20, "what the batches waited for is there, once for each of three steps"
    assert all(
        milliseconds[name] > 0 for name in ("forward", "backward", "communication", "optimizer", "other")
    )
    assert torch.autograd.backward is backward
    assert "run" not in vars(training.stepper)
    assert training.optimizers[""].step.__name__ == "step"
    with gzip.open(own / "profile" / "rank-0.json.gz") as file:
        names = [event.get("name") for event in json.load(file)["traceEvents"]]
    assert names.count("lockstep.forward") == names.count("lockstep.optimizer") == 3
    assert any("addmm" in str(name) for name in names)


def test_an_epochs_end_is_the_profiles_and_steps_that_never_come_are_none(own: Path) -> None:
    tables, _ = _steps(own, "3..500", 4)
    assert [(table["first"], table["last"]) for table in tables] == [(3, 4)]
    tables, _ = _steps(own, "50..60", 4)
    assert tables == []


def test_the_table_is_a_mean_of_ranks_and_names_the_slowest() -> None:
    fast = [0.0, 2.0, 4.0, 3.0, 1.0, 0.0]
    slow = [2.0, 2.0, 4.0, 1.0, 1.0, 0.0]
    table = profile_table([fast, slow, fast], 10, 20)
    assert (table["first"], table["last"]) == (11, 20)
    assert table["milliseconds"]["data"] == pytest.approx(1000 * 2 / 10 / 3)
    assert (table["slowest_rank"], table["lag_milliseconds"]) == (1, pytest.approx(200))
    rows = profile_rows(table)
    assert rows[0].startswith("steps 11 to 20")
    assert rows[1].split() == ["waiting", "for", "data", "66.667", "6.7%"]
    assert rows[-2] == "slowest: rank 1, 200.000 ms behind the fastest"
    assert "slowest" not in "".join(profile_rows(profile_table([fast], 0, 1)))

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from lockstep.launcher.commands.status import show_status
from lockstep.launcher.runs import run_pace
from lockstep.launcher.runs.run_lock import hold_run_lock
from tests.helpers.run_folders import make_run

PLAN = {"steps": 1000, "steps_per_epoch": 300, "batch_size": 8}


def _step(step: int, moment: float, loss: float | None = 0.5, **more: Any) -> dict[str, Any]:
    numbers = {"epoch": step // 300, "step": step, "train/loss": loss}
    return {"time": moment, "event": "step", **numbers, **more}


def _planned(folder: Path, plan: dict[str, Any] | None = None) -> None:
    (folder / "manifest.json").write_text(json.dumps({"plan": plan or PLAN}))


def test_a_plan_is_read_from_the_manifest() -> None:
    folder = make_run("first")
    assert run_pace.read_plan(folder) == {}
    _planned(folder, {**PLAN, "run": "first"})
    assert run_pace.read_plan(folder) == PLAN
    for damaged in ({**PLAN, "steps": 0}, {"steps": 3}, {**PLAN, "steps": "3"}):
        _planned(folder, damaged)
        assert run_pace.read_plan(folder) == {}
    (folder / "manifest.json").write_text("[")
    assert run_pace.read_plan(folder) == {}


def test_a_pace_is_that_of_the_newest_attempt() -> None:
    folder = make_run(
        "first",
        _step(100, 10.0),
        {"time": 50.0, "event": "start", "step": 100},
        _step(150, 60.0),
        _step(250, 110.0, samples_per_second=16.0),
    )
    pace = run_pace.read_pace(folder, PLAN, 115.0)
    assert pace == run_pace.RunPace(16.0, 750 * 0.5 - 5)
    assert run_pace.read_pace(folder, PLAN, 1e6).seconds_left == 0
    one = make_run("second", _step(100, 10.0))
    assert run_pace.read_pace(one, PLAN, 12.0) == run_pace.RunPace(None, None)


def test_losses_come_from_all_over_a_record_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run("first", *(_step(n, 1.0, n / 10) for n in range(1, 1001)))
    short = run_pace.read_losses(folder, 10)
    assert short == pytest.approx([0.1 + 11.1 * n for n in range(10)])
    monkeypatch.setattr(run_pace, "_READ_WHOLE", 1000)
    long = run_pace.read_losses(folder, 10)
    assert long == pytest.approx(short, abs=6)
    assert run_pace.read_losses(folder.with_name("none"), 10) == []


def test_a_loss_that_is_no_number_is_a_gap_and_damage_is_passed_over() -> None:
    folder = make_run("first", _step(1, 1.0, 1.0), _step(2, 1.0, None))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"event": "step", "step": 3, "train/l\n{"event": "step", "step": 4, "train/loss": [1]}\n')
    assert run_pace.read_losses(folder, 10) == [1.0, None]


def test_a_run_that_goes_on_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    rows = [_step(300 + n, now - 40 + n, 2.0 - n / 20, samples_per_second=8.0) for n in range(41)]
    folder = make_run("first", *rows)
    _planned(folder)
    with hold_run_lock(folder):
        show_status("first", watch=False, as_json=False)
        shown = capsys.readouterr().out.splitlines()
        show_status("first", watch=False, as_json=True)
        document = json.loads(capsys.readouterr().out)
        show_status(None, watch=False, as_json=False)
        table = capsys.readouterr().out.splitlines()
    assert shown[1].startswith("epoch 2/4, step 340/1,000 (34 %), 8 samples/s, 0:1")
    assert shown[2] == "train loss 0.0000"
    assert shown[3].startswith("loss  █")
    assert shown[3].endswith("from 2.0000 to 0.0000")
    assert document["planned"] == {**PLAN, "epochs": 4}
    assert document["samples_per_second"] == 8
    assert document["seconds_left"] == pytest.approx(660, abs=30)
    assert table[1].split()[:4] == ["first", "running", "1/4", "340"]
    assert max(map(len, [*shown[:4], *table])) <= 80


def test_a_run_that_ended_early_says_of_how_much(capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run("first", _step(340, 1.0), outcome={"status": "stopped", "exit_code": 75})
    _planned(folder)
    show_status("first", watch=False, as_json=False)
    assert capsys.readouterr().out.splitlines()[1].startswith("1 of 4 epochs, 340 of 1,000 steps, train loss")


def test_a_program_has_no_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    make_run("script", outcome={"status": "done", "exit_code": 0}, kind="run")
    show_status(None, watch=False, as_json=False)
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["script", "done", "0"]

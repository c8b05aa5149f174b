"""A run of so many steps, evaluated between them: killed, resumed, extended, and on other numbers of processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lockstep.training.checkpoint.manifest import list_checkpoints
from lockstep.training.checkpoint.storage import read_state
from tests.helpers.killable_code import KILLABLE_CODE
from tests.helpers.launch import Launch, run_folder
from tests.helpers.run_records import REPRODUCED, UNORDERED_EVENTS, VARYING_VALUES, check_equal_training

STEPS = 24  # 10 to an epoch: it ends within the third
SETTINGS = (
    "loss.use=./own.py:killed",
    "data.args={n: 307, m: 101}",
    "train={steps: 24, precision: fp64, eval_every: 4, eval_batches: 2}",
    "schedule={use: plateau, patience: 0, threshold: 0.2, factor: 0.5, warmup: 3}",
    "checkpoint={every_steps: 7, keep_best: 2, keep_last: null}",
    "log.every_steps=3",
)


@pytest.fixture
def killable(own: Path) -> Path:
    (own / "own.py").write_text((own / "own.py").read_text() + KILLABLE_CODE)
    return own


def _train(launch: Launch, own: Path, name: str, world: int, *more: str, **env: str) -> dict[str, Any]:
    where = ("--name", name, "--cpu", str(world), "--json")
    done = launch("train", "own.yaml", *SETTINGS, *more, *where, cwd=own, env=env)
    assert done.status == (4 if env else 0), done.err
    return {} if env else done.document


def _events(name: str) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (run_folder(name) / "metrics.jsonl").read_text().splitlines()]
    kept = [event for event in events if event["event"] not in UNORDERED_EVENTS]
    return [{key: value for key, value in event.items() if key not in VARYING_VALUES} for event in kept]


def _steps(name: str, kind: str) -> list[int]:
    return [event["step"] for event in _events(name) if event["event"] == kind]


def test_a_run_that_is_killed_between_evaluations_ends_as_if_nothing_had_happened(
    launch: Launch, killable: Path
) -> None:
    whole = _train(launch, killable, "whole", 3)
    assert (whole["steps"], whole["epochs"], whole["metrics"]["val/count"]) == (STEPS, 2, 62)
    assert _steps("whole", "evaluation") == [4, 8, 12, 16, 24]  # at 20 an epoch ends
    epochs = [event for event in _events("whole") if event["event"] == "epoch"]
    assert [(event["step"], "val/loss" in event) for event in epochs] == [(10, False), (20, True), (24, True)]
    assert _steps("whole", "note")  # the plateau was reached
    best = read_state(list_checkpoints(run_folder("whole") / "checkpoints")[0])["ranking"]["entries"]
    assert {entry["step"] for entry in best} <= {4, 8, 12, 16, 20, 24}

    _train(launch, killable, "killed", 3, KILL_AT="21", KILL_RANK="1")
    again = launch("resume", "killed", "--cpu", "3", "--json", cwd=killable)
    assert again.status == 0, again.err
    assert {key: again.document[key] for key in REPRODUCED} == {key: whole[key] for key in REPRODUCED}
    assert _events("killed") == _events("whole")


@pytest.mark.exhaustive
@pytest.mark.parametrize("at", [9, 14, 15, 16, 23, 31])
def test_it_may_be_killed_anywhere(launch: Launch, killable: Path, at: int) -> None:
    whole = _train(launch, killable, "whole", 2)
    _train(launch, killable, "killed", 2, KILL_AT=str(at), KILL_RANK="0")
    again = launch("resume", "killed", "--cpu", "2", "--json", cwd=killable)
    assert {key: again.document[key] for key in REPRODUCED} == {key: whole[key] for key in REPRODUCED}
    assert _events("killed") == _events("whole")


@pytest.mark.exhaustive
def test_one_process_equals_three_and_evaluates_the_same_samples(launch: Launch, killable: Path) -> None:
    one, three = (_train(launch, killable, f"on{world}", world) for world in (1, 3))
    check_equal_training(one, three, 1e-12)
    for ours, theirs in zip(_events("on1"), _events("on3"), strict=True):
        numbers = {key: value for key, value in ours.items() if isinstance(value, float)}
        assert numbers == pytest.approx({key: theirs[key] for key in numbers}, rel=1e-10)


@pytest.mark.exhaustive
def test_evaluations_between_steps_leave_the_training_as_it_is(launch: Launch, killable: Path) -> None:
    same = ("schedule={use: cosine}", "model.use=./own.py:odd")
    often = _train(launch, killable, "often", 2, *same)
    never = _train(launch, killable, "never", 2, *same, "train.eval_every=1000")
    assert often["state_sha256"] == never["state_sha256"]
    losses = [
        [(e["step"], e["train/loss"]) for e in _events(name) if "lr" in e] for name in ("often", "never")
    ]
    assert losses[0] == losses[1]


@pytest.mark.exhaustive
def test_an_extended_run_is_as_if_it_had_been_longer_from_the_start(launch: Launch, killable: Path) -> None:
    whole = _train(launch, killable, "whole", 2, "train.steps=35")
    _train(launch, killable, "longer", 2)
    again = launch("resume", "longer", "train.steps=35", "--cpu", "2", "--json", cwd=killable)
    assert again.status == 0, again.err
    assert again.document["state_sha256"] == whole["state_sha256"]
    assert _steps("longer", "evaluation") == _steps("whole", "evaluation") == [4, 8, 12, 16, 24, 28, 32]
    assert _steps("longer", "epoch") == _steps("whole", "epoch") == [10, 20, 30, 35]


SLOW = """
import time
def slow(output, target):
    time.sleep(0.05)
    return killed(output, target)
"""
CLOCK = (
    "loss.use=./own.py:slow",
    "train={steps: 40, precision: fp64, eval_every: 0.004 minutes}",
)


@pytest.mark.exhaustive
def test_the_clock_evaluates_within_epochs_and_after_them_and_leaves_the_training_as_it_is(
    launch: Launch, killable: Path
) -> None:
    (killable / "own.py").write_text((killable / "own.py").read_text() + SLOW)
    settings = (*CLOCK, "schedule={use: cosine}", "data.batch_size=160")  # two steps to an epoch
    _train(launch, killable, "killed", 2, *settings, KILL_AT="30", KILL_RANK="1")
    first = _evaluated("killed")
    again = launch("resume", "killed", "--cpu", "2", "--json", cwd=killable)
    assert again.status == 0, again.err
    assert first
    assert set(_evaluated("killed")) - {40}
    assert all(event["val/count"] == 101 for event in _events("killed") if "val/loss" in event)
    never = _train(
        launch, killable, "never", 2, *settings, "train.eval_every=1000", "loss.use=./own.py:killed"
    )
    assert again.document["state_sha256"] == never["state_sha256"]


def _evaluated(name: str) -> list[int]:
    """The steps after which the run was evaluated, within an epoch or at its end."""
    kinds = ("evaluation", "epoch")
    return [event["step"] for event in _events(name) if event["event"] in kinds and "val/loss" in event]

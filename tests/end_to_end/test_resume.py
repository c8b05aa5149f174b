"""Killed anywhere and resumed: to the bit on the same number of processes, the same batches on another."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lockstep.training.tracking.event_log import read_events
from tests.helpers.killable_code import KILLABLE_CODE
from tests.helpers.launch import Launch, outcome_of, run_folder
from tests.helpers.run_records import REPRODUCED, UNORDERED_EVENTS, VARYING_VALUES

ALWAYS = [
    "loss.use=./own.py:killed",
    "checkpoint.every_steps=7",
    "log.every_steps=5",
    "data.args={n: 307, m: 101}",
]
VARIANTS: dict[str, list[str]] = {
    "momentum": [],
    "Adam, cosine": ["optimizer={use: adam, lr: 0.01}", "schedule.use=cosine"],
    "dropout": ["model.use=./own.py:dropping"],
    "batch norm": ["model.use=./own.py:normed"],
    "random augmentation, 2 workers": ["data.use=./own.py:dataset", "data.args={}"],
    "random augmentation in the rank": ["data.use=./own.py:dataset", "data.args={}", "data.workers=0"],
    "crops and mirror images": [
        "data={use: ./own.py:pictures, args: {}, augment: {crop: 2, flip: true}}",
        "model.use=./own.py:seeing",
    ],
    "accumulation": ["data.max_micro_batch=4"],
    "fp16 with its scaler": ["train.precision=fp16", "optimizer={use: adam, lr: 0.01}"],
    "bf16": ["train.precision=bf16", "optimizer={use: adamw, lr: 0.01}"],
}
USUAL = "Adam, cosine"  # the others: faults/test_kill_anywhere.py without the launcher, or exhaustive
STEPS = 20  # of two epochs of 307 samples in batches of 31
CALLS = 23  # of the loss, at least: the steps, warm-up and evaluation


@pytest.fixture
def killable(own: Path) -> Path:
    (own / "own.py").write_text((own / "own.py").read_text() + KILLABLE_CODE)
    return own


def _train(launch: Launch, own: Path, name: str, world: int, *settings: str, **env: str) -> int:
    arguments = ("own.yaml", *ALWAYS, *settings, "--name", name, "--cpu", str(world))
    return launch("train", *arguments, cwd=own, env=env).status


def _resume(launch: Launch, own: Path, name: str, world: int, *settings: str) -> dict[str, Any]:
    result = launch("resume", name, *settings, "--cpu", str(world), "--json", cwd=own)
    assert result.status == 0, result.err
    return result.document


def _events(name: str) -> list[dict[str, Any]]:
    events = [json.loads(line) for line in (run_folder(name) / "metrics.jsonl").read_text().splitlines()]
    kept = [event for event in events if event["event"] not in UNORDERED_EVENTS]
    return [{key: value for key, value in event.items() if key not in VARYING_VALUES} for event in kept]


def _check_same(name: str, other: str) -> None:
    one, two = outcome_of(name), outcome_of(other)
    assert {key: two[key] for key in REPRODUCED} == {key: one[key] for key in REPRODUCED}
    assert _events(other) == _events(name)


def _kill_and_resume(launch: Launch, own: Path, variant: str, world: int, at: int, rank: int | None) -> None:
    settings = VARIANTS[variant]
    env = {"KILL_AT": str(at), **({} if rank is None else {"KILL_RANK": str(rank)})}
    assert _train(launch, own, "killed", world, *settings, **env) == 4
    _resume(launch, own, "killed", world)
    _check_same("whole", "killed")


@pytest.mark.exhaustive
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_killed_run_ends_as_if_nothing_had_happened(launch: Launch, killable: Path, variant: str) -> None:
    draw = random.Random(variant)
    world = draw.choice((1, 2, 3))
    assert _train(launch, killable, "whole", world, *VARIANTS[variant]) == 0
    rank = draw.choice((None, draw.randrange(world)))
    _kill_and_resume(launch, killable, variant, world, draw.randrange(1, CALLS), rank)


def _weights(name: str) -> dict[str, torch.Tensor]:
    return load_file(max((run_folder(name) / "checkpoints").glob("step_*")) / "model.safetensors")


@pytest.mark.exhaustive
def test_resumed_on_other_numbers_of_processes_it_reads_the_same_batches(
    launch: Launch, killable: Path
) -> None:
    assert _train(launch, killable, "whole", 1) == 0
    assert _train(launch, killable, "killed", 3, KILL_AT="10") == 4
    step = _resume(launch, killable, "killed", 2, "train.max_steps=15")["steps"]
    assert step == 15
    _resume(launch, killable, "killed", 1, "train.max_steps=20")
    one, many = outcome_of("whole"), outcome_of("killed")
    assert many["order_sha256"] == one["order_sha256"]
    assert many["consumed_digest"] == one["consumed_digest"]
    assert sum(many["ranks"]) == many["samples"] == one["samples"] == 2 * 307
    assert many["metrics"] == pytest.approx(one["metrics"], rel=1e-12)
    for name, tensor in _weights("whole").items():
        assert torch.allclose(_weights("killed")[name], tensor, rtol=0, atol=1e-12), name


def test_a_run_of_that_name_goes_on_by_itself(launch: Launch, killable: Path) -> None:
    settings = VARIANTS[USUAL]
    assert _train(launch, killable, "whole", 2, *settings) == 0
    assert _train(launch, killable, "killed", 2, *settings, KILL_AT="17") == 4
    assert _train(launch, killable, "killed", 2, *settings) == 0
    _check_same("whole", "killed")
    (run_folder("killed") / "outcome.json").unlink()  # killed after its last checkpoint
    assert _train(launch, killable, "killed", 2, *settings) == 0
    assert outcome_of("killed")["state_sha256"] == outcome_of("whole")["state_sha256"]
    again = launch("train", "own.yaml", *ALWAYS, *settings, "--name", "killed", "--cpu", "2", cwd=killable)
    assert again.status == 2
    assert "killed is done: 20 of 20 steps" in again.err


@pytest.mark.exhaustive
def test_a_finished_run_is_extended(launch: Launch, killable: Path) -> None:
    assert _train(launch, killable, "whole", 2, "train.epochs=3") == 0
    assert _train(launch, killable, "killed", 2) == 0
    _resume(launch, killable, "killed", 2, "train.epochs=3")
    assert [row for row in _events("killed") if row["event"] == "epoch"] == [
        row for row in _events("whole") if row["event"] == "epoch"
    ]
    assert outcome_of("killed")["state_sha256"] == outcome_of("whole")["state_sha256"]


@pytest.mark.exhaustive
def test_a_run_is_not_cut_back_to_fewer_steps_than_it_has_done(launch: Launch, killable: Path) -> None:
    assert _train(launch, killable, "run", 1, "train.max_steps=14") == 0
    before = (run_folder("run") / "metrics.jsonl").read_bytes()
    (run_folder("run") / "outcome.json").rename(killable / "outcome.json")
    for shorter, steps in (("train.epochs=1", 10), ("train.max_steps=5", 5)):  # it was killed, and it is done
        again = launch("resume", "run", shorter, "--cpu", "1", cwd=killable)
        assert again.status == 2, again.err
        assert f"run has done 14 steps already, and is to end after {steps}: nothing is left" in again.err
        assert "`launch eval run`" in again.err
        shutil.copy(killable / "outcome.json", run_folder("run"))
        assert (run_folder("run") / "metrics.jsonl").read_bytes() == before
    newest = max((run_folder("run") / "checkpoints").iterdir())
    (newest / "state.json").write_text("{}")  # the one before it, of step 10, is what the run has now
    assert _resume(launch, killable, "run", 1)["steps"] == 14


@pytest.mark.exhaustive
def test_the_row_of_an_epoch_that_max_steps_cut_short_stays_until_the_epoch_goes_on(
    launch: Launch, killable: Path
) -> None:
    def rows() -> list[tuple[int, int]]:
        events = read_events(run_folder("run") / "metrics.jsonl")
        return [(event["epoch"], event["step"]) for event in events if event["event"] == "epoch"]

    assert _train(launch, killable, "run", 1, "train.max_steps=14") == 0
    (
        run_folder("run") / "outcome.json"
    ).unlink()  # as if it had been killed between its last checkpoint and its end
    assert _resume(launch, killable, "run", 1)["steps"] == 14
    assert rows() == [(0, 10), (1, 14)]
    assert _resume(launch, killable, "run", 1, "train.max_steps=20")["steps"] == 20
    assert rows() == [(0, 10), (1, 20)]


def _check_refused(launch: Launch, own: Path, status: int, words: str, *settings: str) -> None:
    before = (run_folder("killed") / "metrics.jsonl").read_bytes()
    result = launch("resume", "killed", *settings, "--cpu", "1", cwd=own)
    assert result.status == status
    assert words in result.err
    assert (run_folder("killed") / "metrics.jsonl").read_bytes() == before


def test_a_run_that_is_being_trained_another_run_and_changed_data_are_refused(
    launch: Launch, killable: Path
) -> None:
    from lockstep.launcher.runs.run_lock import hold_run_lock

    assert _train(launch, killable, "killed", 1, KILL_AT="10") == 4
    with hold_run_lock(run_folder("killed")):
        _check_refused(launch, killable, 2, f"process {os.getpid()} of")
    _check_refused(launch, killable, 2, "optimizer.lr: 0.2 in the run, 0.5 now", "optimizer.lr=0.5")
    source = (killable / "own.py").read_text()
    (killable / "own.py").write_text(source.replace("manual_seed(0)", "manual_seed(1)"))
    changed = "the data set ./own.py:data has changed since the run was started"
    _check_refused(launch, killable, 6, changed)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("data.batch_size=30", "data.batch_size: 31 in the run, 30 now"),
        ("train.seed=1", "train.seed: 0 in the run, 1 now"),
        ("data.augment.flip=true", "data.augment.flip: False in the run, True now"),
    ],
)
def test_what_makes_it_another_run_is_refused(
    launch: Launch, killable: Path, setting: str, words: str
) -> None:
    assert _train(launch, killable, "killed", 1, KILL_AT="10") == 4
    _check_refused(launch, killable, 2, words, setting)


@pytest.mark.exhaustive
def test_free_settings_may_change(launch: Launch, killable: Path) -> None:
    assert _train(launch, killable, "killed", 1, KILL_AT="10") == 4
    document = _resume(launch, killable, "killed", 1, "log.every_steps=2", "checkpoint.every_steps=null")
    assert document["steps"] == STEPS


@pytest.mark.exhaustive
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(launch: Launch, killable: Path) -> None:
    assert _train(launch, killable, "whole", 2) == 0
    assert _train(launch, killable, "killed", 2, "train.max_steps=14") == 0
    newest = max((run_folder("killed") / "checkpoints").glob("step_*"))
    content = bytearray((newest / "optimizer.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "optimizer.safetensors").write_bytes(content)
    result = launch("resume", "killed", "train.max_steps=20", "--cpu", "2", cwd=killable)
    assert result.status == 0, result.err
    assert f"{newest.name}/optimizer.safetensors is not what was written" in result.err
    _check_same("whole", "killed")
    assert list((run_folder("killed") / "checkpoints").glob(f"damaged-{newest.name}-*"))


@pytest.mark.exhaustive
def test_a_run_whose_project_has_moved_says_where_it_looks_and_goes_on_from_there(
    launch: Launch, killable: Path
) -> None:
    assert _train(launch, killable, "run", 1, "train.max_steps=12") == 0
    moved = killable.rename(killable.with_name("moved"))
    for command in (("resume", "run", "train.max_steps=14"), ("eval", "run")):
        lost = launch(*command, "--cpu", "1", cwd=moved)
        assert lost.status == 2, lost.err
        assert f"there is no file {killable / 'own.py'}" in lost.err
        assert f"paths are relative to {killable}, which is not there any more" in lost.err
        assert "`launch train CONFIG --resume RUN`" in lost.err
    killable.symlink_to(moved)
    assert launch("eval", "run", "--cpu", "1", cwd=moved).status == 0
    killable.unlink()
    again = launch("train", "own.yaml", *ALWAYS, "train.max_steps=14", "--resume", "run", cwd=moved)
    assert again.status == 0, again.err
    assert launch("eval", "run", "--cpu", "1", cwd=moved).status == 0, "the run knows the new place"


@pytest.mark.exhaustive
def test_a_run_without_a_whole_checkpoint_says_what_helps(launch: Launch, killable: Path) -> None:
    assert _train(launch, killable, "run", 1, "train.max_steps=12") == 0
    checkpoints = run_folder("run") / "checkpoints"
    for path in checkpoints.iterdir():
        (path / "state.json").unlink()
    for command in ("resume", "eval"):
        refused = launch(command, "run", "--cpu", "1", cwd=killable)
        assert refused.status == 6
        assert all(f"step_{step:08d}/state.json is missing" in refused.err for step in (7, 10, 12))
        assert "move them all away, and the run begins at its first step" in refused.err
    checkpoints.rename(killable / "away")
    assert _resume(launch, killable, "run", 1)["steps"] == 12

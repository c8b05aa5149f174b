"""Killed at any step, in evaluation, in a checkpoint: resumed, a run ends equal to the bit to one that never was."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.killable_code import KILLABLE_CODE
from tests.helpers.launch import JobServer, free_port, job_server
from tests.helpers.programs.killed_ranks import KILL_POINTS
from tests.helpers.run_records import REPRODUCED, UNORDERED_EVENTS, VARYING_VALUES
from tests.helpers.user_project import USER_CODE, USER_CONFIG
from tests.helpers.warm_launch import run_launch

ALWAYS = ["checkpoint.every_steps=4", "checkpoint.keep_last=2", "log.every_steps=3", "train.epochs=2"]
OWN_PAIR = "data.args={n: 205, m: 61}"  # 7 steps an epoch, the last of 19
VARIANTS: dict[str, list[str]] = {
    "Adam, cosine, dropout, EMA, accumulation 3": [
        OWN_PAIR,
        "optimizer={use: adam, lr: 0.01}",
        "schedule.use=cosine",
        "model.use=./own.py:dropping",
        "train.ema={decay: 0.9}",
        "data.max_micro_batch=11",
    ],
    "momentum, batch norm, early stopping": [
        OWN_PAIR,
        "model.use=./own.py:normed",
        "train.early_stop={patience: 1}",
    ],
    "fp16 with its scaler, augmentation in the rank": [
        "data.use=./own.py:dataset",
        "data.args={n: 205, m: 61}",
        "data.workers=0",
        "train.precision=fp16",
        "optimizer={use: adam, lr: 0.01}",
    ],
    "bf16, dropout, EMA, augmentation in 2 workers": [
        "data.use=./own.py:dataset",
        "data.args={n: 205, m: 61}",
        "data.workers=2",
        "train.precision=bf16",
        "model.use=./own.py:dropping",
        "train.ema={decay: 0.9, every_steps: 2}",
    ],
    "Adam, strided and tied weights, buffers of each rank's own, EMA": [
        OWN_PAIR,
        "optimizer={use: adam, lr: 0.01}",
        "model.use=./own.py:odd",
        "train.ema={decay: 0.9}",
        "data.max_micro_batch=13",
    ],
}
PLAIN = "momentum in float64"
SPECS = {**VARIANTS, PLAIN: [OWN_PAIR]}
STEPS = 14
SEED = 5
SAMPLE = random.Random(SEED).sample(list(VARIANTS), 1)
POINTS = [
    *(("step", number) for number in range(1, STEPS + 1)),
    *(("evaluation", number) for number in (1, 2)),
    *(("checkpoint", number) for number in range(1, 13)),
    ("pruning", 1),
]
"""Where, and at which step of the run or which call of the attempt."""


@dataclass(frozen=True)
class Killer:
    """Trains a spec, with a kill or without."""

    server: JobServer
    project: Path
    specs: dict[str, str] = field(default_factory=dict)
    """Those that have been asked for so far: each costs seconds."""

    def new(self, folder: Path, variant: str) -> Path:
        folder.mkdir(parents=True)
        if variant not in self.specs:
            self.specs[variant] = _spec(self.project, SPECS[variant])
        (folder / "spec.json").write_text(self.specs[variant])
        return folder

    def run(self, folder: Path, world: int, threads: int, kill: dict[str, Any] | None = None) -> list[int]:
        job = {"folder": str(folder), "world": world, "port": free_port(), "threads": threads, "kill": kill}
        return self.server.ask(job)


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    folder = tmp_path_factory.mktemp("killer")
    (folder / "own.py").write_text(USER_CODE + KILLABLE_CODE)
    (folder / "own.yaml").write_text(USER_CONFIG)
    with job_server("killed_ranks", OMP_WAIT_POLICY="PASSIVE", WANDB_MODE="disabled") as server:
        yield Killer(server, folder)


def _spec(folder: Path, settings: list[str]) -> str:
    command = ("train", "own.yaml", *ALWAYS, *settings, "--cpu", "1", "--dry-run", "--json")
    asked = run_launch(*command, cwd=folder)
    return json.dumps(json.loads(asked.stdout)["spec"])


def _outcome(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "outcome.json").read_text())


def _record(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    events = [event for line in lines if (event := json.loads(line))["event"] not in UNORDERED_EVENTS]
    return [{key: value for key, value in event.items() if key not in VARYING_VALUES} for event in events]


def _tensors(folder: Path) -> dict[str, str]:
    """File name to hash, of the last checkpoint's tensors."""
    newest = max((folder / "checkpoints").glob("step_*"))
    files = json.loads((newest / "manifest.json").read_text())["files"]
    return {name: entry["sha256"] for name, entry in files.items() if name.endswith(".safetensors")}


def _check_equal(whole: Path, killed: Path) -> None:
    one, two = _outcome(whole), _outcome(killed)
    assert {key: two[key] for key in REPRODUCED} == {key: one[key] for key in REPRODUCED}
    assert _record(killed) == _record(whole)
    assert _tensors(killed) == _tensors(whole)
    assert not list((killed / "checkpoints").glob(".*"))


def _kill(killer: Killer, folder: Path, world: int, threads: int, kill: dict[str, Any]) -> bool:
    """Whether it was killed: an attempt may end before it makes as many calls."""
    statuses = killer.run(folder, world, threads, kill)
    if not any(statuses):
        return False
    assert statuses[kill["rank"] or 0] == -signal.SIGKILL, (folder / "rank-0.log").read_text()
    return True


def _kill_once(killer: Killer, tmp_path: Path, variant: str, seed: int) -> None:
    draw = random.Random(f"{variant} {seed}")
    world, threads, (place, number) = draw.randint(1, 4), draw.randint(1, 2), draw.choice(POINTS)
    rank = 0 if place in ("checkpoint", "pruning") else draw.choice((None, draw.randrange(world)))
    whole = killer.new(tmp_path / "whole", variant)
    assert killer.run(whole, world, threads) == [0] * world, (whole / "rank-0.log").read_text()
    killed = killer.new(tmp_path / "killed", variant)
    _kill(killer, killed, world, threads, {"place": place, "number": number, "rank": rank})
    if not (killed / "outcome.json").exists():
        assert killer.run(killed, world, threads) == [0] * world, (killed / "rank-0.log").read_text()
    _check_equal(whole, killed)


@pytest.mark.parametrize(
    "variant", [v if v in SAMPLE else pytest.param(v, marks=pytest.mark.exhaustive) for v in VARIANTS]
)
def test_killed_once_somewhere(killer: Killer, tmp_path: Path, variant: str) -> None:
    _kill_once(killer, tmp_path, variant, SEED)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("who", ["all", "one"])
@pytest.mark.parametrize(("world", "threads"), [(1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_at_every_point(
    killer: Killer, tmp_path: Path, variant: str, world: int, threads: int, who: str
) -> None:
    """One run for each place, killed at its first point, resumed, killed at the second, and so on to its end."""
    whole = killer.new(tmp_path / "whole", variant)
    assert killer.run(whole, world, threads) == [0] * world
    for place in KILL_POINTS:
        folder = killer.new(tmp_path / place, variant)
        killed = 0
        for number in (number for at, number in POINTS if at == place):
            rank = None if who == "all" else 0 if place in ("checkpoint", "pruning") else number % world
            killed += _kill(killer, folder, world, threads, {"place": place, "number": number, "rank": rank})
        assert killed, f"no point of {place} was reached"
        if not (folder / "outcome.json").exists():
            assert killer.run(folder, world, threads) == [0] * world, (folder / "rank-0.log").read_text()
        _check_equal(whole, folder)


def _notes(folder: Path) -> list[str]:
    """What the last attempt said at its start."""
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [event for event in events if event["event"] == "start"][-1]["notes"]


def _through_worlds(killer: Killer, folder: Path) -> dict[str, Any]:
    """4 processes, killed in mid-epoch, then 2, then 1, then 3 to the end."""
    for world, step in ((4, 6), (2, 9), (1, 12)):
        statuses = killer.run(folder, world, 1, {"place": "step", "number": step, "rank": None})
        assert statuses == [-signal.SIGKILL] * world, (folder / "rank-0.log").read_text()
    assert killer.run(folder, 3, 1) == [0] * 3, (folder / "rank-0.log").read_text()
    return _outcome(folder)


def test_on_other_numbers_of_processes_it_reads_the_same_batches(killer: Killer, tmp_path: Path) -> None:
    whole = killer.new(tmp_path / "whole", PLAIN)
    assert killer.run(whole, 1, 1) == [0]
    moved = killer.new(tmp_path / "moved", PLAIN)
    one, many = _outcome(whole), _through_worlds(killer, moved)
    for key in ("order_sha256", "consumed_digest", "samples"):
        assert many[key] == one[key], key
    assert sum(many["ranks"]) == many["samples"] == 2 * 205
    assert many["metrics"] == pytest.approx(one["metrics"], rel=1e-12)
    theirs, ours = (
        load_file(max((f / "checkpoints").iterdir()) / "model.safetensors") for f in (whole, moved)
    )
    assert all(torch.allclose(ours[name], theirs[name], rtol=0, atol=1e-12) for name in theirs)
    # Of which process count the last checkpoint is depends on whether the one before the kill was committed yet.
    (note,) = _notes(moved)
    assert note in [f"world_size was {world} and is 3: the last bits may differ" for world in (1, 2)]


def test_a_resumed_run_uses_as_many_threads_as_before(killer: Killer, tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two cores")
    folder = killer.new(tmp_path / "killed", PLAIN)
    assert _kill(killer, folder, 2, 2, {"place": "step", "number": 9, "rank": None})
    assert killer.run(folder, 2, 1) == [0, 0]
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [event["threads"] for event in events if event["event"] == "start"] == [2, 2]
    assert _notes(folder) == []


def test_another_cut_of_the_batch_under_batch_norm_is_no_matter_of_last_bits(
    killer: Killer, tmp_path: Path
) -> None:
    folder = killer.new(tmp_path / "killed", "momentum, batch norm, early stopping")
    assert _kill(killer, folder, 1, 1, {"place": "step", "number": 9, "rank": None})
    spec = json.loads((folder / "spec.json").read_text())
    spec["config"]["data"]["max_micro_batch"] = 16
    (folder / "spec.json").write_text(json.dumps(spec))
    assert killer.run(folder, 1, 1) == [0]
    assert _notes(folder) == [
        "max_micro_batch was None and is 16: the last bits may differ",
        "the model has batch norm: from here on its results differ, not only in the last bits",
    ]


def test_a_buffer_that_is_each_ranks_own_is_named_where_it_cannot_be_kept(
    killer: Killer, tmp_path: Path
) -> None:
    moved = killer.new(tmp_path / "moved", "Adam, strided and tied weights, buffers of each rank's own, EMA")
    assert _kill(killer, moved, 2, 1, {"place": "step", "number": 9, "rank": None})
    assert killer.run(moved, 1, 1) == [0]
    lost = "the buffer centre was each rank's own: from here on all have rank 0's, and results differ"
    assert lost in _notes(moved)


def test_what_will_differ_on_another_number_of_processes_is_said(killer: Killer, tmp_path: Path) -> None:
    variant = "momentum, batch norm, early stopping"
    whole = killer.new(tmp_path / "whole", variant)
    assert killer.run(whole, 1, 1) == [0]
    moved = killer.new(tmp_path / "moved", variant)
    many, one = _through_worlds(killer, moved), _outcome(whole)
    assert (many["order_sha256"], many["consumed_digest"]) == (one["order_sha256"], one["consumed_digest"])
    assert many["weights_sha256"] != one["weights_sha256"]
    assert "the model has batch norm: from here on its results differ, not only in the last bits" in _notes(
        moved
    )

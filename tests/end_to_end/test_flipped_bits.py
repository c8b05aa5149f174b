"""``train.verify_every``: a bit that flips on one rank is found before the next checkpoint, and the rank is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launch import JobServer, Launch, free_port, job_server

CODE = '''
import os

import torch
from torch import nn

MODELS = []


def data(n=103, m=31):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n + m, 7, generator=g)
    y = (x.sum(1) > 0).long()
    return {"train": (x[:n], y[:n]), "val": (x[n:], y[n:])}


def model():
    MODELS.append(nn.Sequential(nn.Linear(7, 99), nn.BatchNorm1d(99), nn.Dropout(0.2), nn.Tanh(), nn.Linear(99, 2)))
    return MODELS[-1]


def flip(tensor):
    tensor.detach().view(-1).view(torch.int32)[5] ^= 1 << 21


def adam(parameters, lr, kind="none", rank=1, at=8):
    """Adam whose memory is faulty in one rank's step number ``at``, once."""
    optimizer, steps = torch.optim.Adam(parameters, lr=lr), [0]
    weight = optimizer.param_groups[0]["params"][0]

    def before(*_):
        steps[0] += 1
        if faulty() and kind == "gradient":
            flip(weight.grad)

    def after(*_):
        if faulty() and kind == "weight":
            flip(weight)
        if faulty() and kind == "moment":
            flip(optimizer.state[weight]["exp_avg"])
        if faulty() and kind == "buffer":
            flip(MODELS[-1][1].running_mean)

    def faulty():
        return steps[0] == at and int(os.environ.get("RANK", "0")) == rank

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
    return optimizer
'''
CONFIG = """
data: {use: "./exp.py:data", batch_size: 31}
model: {use: "./exp.py:model"}
optimizer: {use: "./exp.py:adam", lr: 0.01}
checkpoint: {every_epochs: null, every_steps: 6, keep_best: 0}
train: {max_steps: 13, epochs: 4, verify_every: 3, precision: fp32}
tracking: []
"""
TENSORS = {
    "weight": "weight 0.weight",
    "gradient": "weight 0.weight",
    "moment": "optimizer's 0.weight/exp_avg",
    "buffer": "buffer 1.running_mean",
}
AT = {"gradient": 9, "buffer": 9}
"""Else in the step before a comparison: but a flipped gradient may show in no loss, and the mean over the logical
ranks makes running statistics equal again."""
SAMPLE = [("weight", 2, "4")]  # neither is outvoted; a majority is found by pure functions
ALL = [
    (kind, world, logical)
    for kind in TENSORS
    for world in (2, 3, 4)
    for logical in ("4", "null")
    if kind != "buffer" or logical == "4"
]


@pytest.fixture(scope="module")
def ranks() -> Iterator[JobServer]:
    with job_server("killed_ranks", OMP_WAIT_POLICY="PASSIVE", WANDB_MODE="disabled") as server:
        yield server


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    (tmp_path / "exp.py").write_text(CODE)
    (tmp_path / "exp.yaml").write_text(CONFIG)
    return tmp_path


def _train(ranks: JobServer, folder: Path, world: int) -> list[int]:
    job = {"folder": str(folder), "world": world, "threads": 1, "port": free_port(), "kill": None}
    statuses: list[int] = ranks.ask(job)
    return statuses


def _run_folder(launch: Launch, exp: Path, name: str, *settings: str) -> Path:
    asked = launch("train", "exp.yaml", *settings, "--cpu", "2", "--json", "--dry-run", cwd=exp)
    assert asked.status == 0, asked.err
    (exp / name).mkdir()
    (exp / name / "spec.json").write_text(json.dumps(asked.document["spec"]))
    return exp / name


def _events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _check(launch: Launch, ranks: JobServer, exp: Path, case: tuple[str, int, str]) -> None:
    kind, world, logical = case
    settings = [f"train.logical_ranks={logical}", f"optimizer.args.rank={world - 1}"]
    faulty = [f"optimizer.args.kind={kind}", f"optimizer.args.at={AT.get(kind, 8)}"]
    folder = _run_folder(launch, exp, "faulty", *settings, *faulty)
    statuses = _train(ranks, folder, world)
    assert 8 in statuses
    assert set(statuses) <= {8, -9}, (
        folder / "rank-0.log"
    ).read_text()  # those that came later may be killed
    found, verdict = (
        event for event in _events(folder) if event["event"] in ("diverged", "diverged_rank")
    )  # in this order
    assert (found["event"], found["agreed"], found["step"]) == ("diverged", 6, 9)
    assert (verdict["event"], verdict["step"], verdict["ranks"]) == ("diverged_rank", 9, [world - 1])
    assert TENSORS[kind] in found["tensors"]
    assert sorted(path.name for path in (folder / "checkpoints").glob("step_*")) == ["step_00000006"]
    error = json.loads((folder / "attempt-1" / "error-0.json").read_text())
    assert f"rank {world - 1} (host " in error["message"]
    assert "after step 6 all ranks were equal" in error["message"]
    assert "it resumes from step 6, where the ranks were compared" in error["hint"]
    clean = _run_folder(launch, exp, "clean", *settings)
    for path in (folder, clean):
        assert _train(ranks, path, world) == [0] * world
    assert [event for event in _events(folder) if event["event"].startswith("diverged")] == [found, verdict]
    one, other = (json.loads((path / "outcome.json").read_text()) for path in (folder, clean))
    assert one["state_sha256"] == other["state_sha256"]


@pytest.mark.parametrize("case", SAMPLE)
def test_a_flipped_bit_is_found_before_the_next_checkpoint(
    launch: Launch, ranks: JobServer, exp: Path, case: tuple[str, int, str]
) -> None:
    _check(launch, ranks, exp, case)


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", ALL)
def test_each_kind_of_flipped_bit_is_found(
    launch: Launch, ranks: JobServer, exp: Path, case: tuple[str, int, str]
) -> None:
    _check(launch, ranks, exp, case)


def test_the_plan_says_what_is_compared(launch: Launch, exp: Path) -> None:
    plan = launch("train", "exp.yaml", "train.verify_every=auto", "--cpu", "2", "--dry-run", cwd=exp)
    assert (
        "weights and optimizer are compared over 2 ranks every 100 steps and before each checkpoint"
        in plan.out
    )
    alone = launch("train", "exp.yaml", "--cpu", "1", "--dry-run", cwd=exp)
    assert "one process has no other to be compared with" in alone.out
    fsdp = launch("train", "exp.yaml", "train.strategy=fsdp", "--dry-run", cwd=exp)
    assert "train.verify_every: with train.strategy=fsdp no two ranks hold the same" in fsdp.err

"""``train.logical_ranks``: the same bits on any number of processes, and after a kill on another number of them."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launch import JobServer, Launch, free_port, job_server

SEED = 18
LOGICAL = 8
SAME = ("weights_sha256", "state_sha256", "order_sha256", "consumed_digest", "metrics", "steps", "epochs")
MORE = '''
def pictures(n=175, m=53):
    splits = data(n=n, m=m, width=64)
    return {name: (x.view(-1, 1, 8, 8).float(), y) for name, (x, y) in splits.items()}

def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
        nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, momentum=None), nn.ReLU(), nn.Flatten(), nn.Linear(288, 2),
    )

class Transformer(nn.Module):
    """One block over the rows of a picture, with dropout and a tied weight."""
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.back = nn.Linear(16, 8)
        self.back.weight = nn.Parameter(self.embed.weight.t().contiguous())
        self.head = nn.Linear(16, 2)
    def forward(self, x):
        hidden = self.block(self.embed(x.squeeze(1)))
        return self.head(hidden.mean(1) + nn.functional.linear(self.back(hidden).mean(1), self.embed.weight))

class Centred(nn.Module):
    """A buffer that learns and is no statistic of a norm, a branch that few batches reach, a transposed weight."""
    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(64))
        self.usual, self.rare = nn.Linear(64, 2), nn.Linear(64, 2)
        self.usual.weight = nn.Parameter(torch.randn(64, 2).t() / 8)
    def forward(self, x):
        x = x.flatten(1)
        if self.training:
            with torch.no_grad():
                self.centre.lerp_(x.mean(0), 0.1)
        out = self.usual(x - self.centre)
        return out + self.rare(x) if x[0, 0] > 0.8 else out

def weighted(output, target):
    losses = nn.functional.cross_entropy(output, target, reduction="none")
    weights = 0.3 + target.to(losses.dtype)
    return (losses * weights).sum(), weights.sum()
'''
CONFIG = """
data: {use: ./own.py:pictures, batch_size: 26, val_size: null}
model: {use: ./own.py:cnn}
optimizer: {use: adam, lr: 0.01}
train: {epochs: 2, logical_ranks: 8, precision: fp32}
log: {every_steps: 2}
tracking: []
"""
VARIANTS: dict[str, list[str]] = {
    "a CNN with batch norm and dropout": [],
    "a transformer with dropout": ["model.use=./own.py:Transformer"],
    "a buffer that learns, a branch": ["model.use=./own.py:Centred", "optimizer.use=sgd"],
    "(sum, weight)": ["loss.use=./own.py:weighted"],
    "accumulation": ["data.max_micro_batch=3", "data.batch_size=48"],
    "crops and mirror images": ["data.augment={crop: 2, flip: true}"],
    "averaged and clipped": ["train.ema={decay: 0.9}", "optimizer.clip_norm=0.5"],
    "bf16": ["train.precision=bf16"],
    "fp64": ["train.precision=fp64"],
    "fp16 with a scaler": ["train.precision=fp16"],
    "two optimizers": [
        "optimizer={}",
        "optimizers={biases: {match: bias$, use: sgd, lr: 0.1, clip_norm: 1.0}, others: {use: adam, lr: 0.01}}",
    ],
    "5 logical ranks, read one by one": ["train.logical_ranks=5", "data.batch_size=23", "data.workers=0"],
}


def _write(own: Path) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + MORE)
    (own / "exp.yaml").write_text(CONFIG)


@pytest.fixture(scope="module")
def ranks() -> Iterator[JobServer]:
    with job_server("killed_ranks", OMP_WAIT_POLICY="PASSIVE", WANDB_MODE="disabled") as server:
        yield server


def _spec(launch: Launch, own: Path, settings: list[str]) -> str:
    asked = launch("train", "exp.yaml", *settings, "--cpu", "1", "--json", "--dry-run", cwd=own)
    assert asked.status == 0, asked.err
    return json.dumps(asked.document["spec"])


def _end(ranks: JobServer, folder: Path, spec: str, worlds: list[int], kills: list[int]) -> dict[str, Any]:
    """How a run ends that is killed on each number of processes but the last."""
    folder.mkdir()
    (folder / "spec.json").write_text(spec)
    for world, kill in zip(worlds, [*kills, None], strict=True):
        place = None if kill is None else {"place": "step", "number": kill, "rank": None}
        job = {"folder": str(folder), "world": world, "threads": 1, "port": free_port(), "kill": place}
        ended = 0 if kill is None else -signal.SIGKILL
        assert ranks.ask(job) == [ended] * world, (folder / "rank-0.log").read_text()
    outcome = json.loads((folder / "outcome.json").read_text())
    record = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [
        {key: value for key, value in event.items() if key.startswith(("train/", "val/", "step"))}
        for event in record
        if event["event"] in ("step", "epoch")
    ]
    notes = [note for event in record for note in event.get("notes", ())]
    assert not any("world_size" in note for note in notes)
    return {**{key: outcome[key] for key in SAME}, "record": steps}


def _check(launch: Launch, ranks: JobServer, own: Path, variant: str, worlds: list[list[int]]) -> None:
    _write(own)
    spec = _spec(launch, own, VARIANTS[variant])
    draw = random.Random(f"{SEED} {variant}")
    ends = {}
    for number, sequence in enumerate(worlds):
        kills = sorted(draw.sample(range(2, 12), len(sequence) - 1))
        ends[str(sequence)] = _end(ranks, own / f"run-{number}", spec, sequence, kills)
    first = next(iter(ends.values()))
    assert ends == dict.fromkeys(ends, first)


@pytest.mark.parametrize("variant", random.Random(SEED).sample(list(VARIANTS), 1))
def test_any_number_of_processes_gives_the_same_bits_and_so_do_kills(
    launch: Launch, ranks: JobServer, own: Path, variant: str
) -> None:
    _check(launch, ranks, own, variant, [[1], [3], [2, 1]])


@pytest.mark.exhaustive
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_number_of_processes_gives_the_same_bits(
    launch: Launch, ranks: JobServer, own: Path, variant: str
) -> None:
    worlds = [[1], [2], [3], [4], [5], [1, 4], [4, 3, 1], [2, 5]]
    _check(launch, ranks, own, variant, worlds)


def test_more_processes_than_logical_ranks_are_refused(launch: Launch, own: Path) -> None:
    _write(own)
    found = launch("train", "exp.yaml", "train.logical_ranks=2", "--cpu", "3", "--dry-run", cwd=own)
    assert found.status == 2
    assert "train.logical_ranks=2: 3 processes cannot share so few" in found.err


def test_the_plan_says_how_the_batch_is_cut(launch: Launch, own: Path) -> None:
    _write(own)
    found = launch("train", "exp.yaml", "--cpu", "3", "--dry-run", cwd=own)
    assert "batch 26 = 8 logical: 2 x 4 + 6 x 3, on 3 processes" in found.out + found.err
    assert "1 thread per process" in found.out + found.err
    assert (
        launch("train", "exp.yaml", "--cpu", "1", "--dry-run", "--json", cwd=own).document["plan"]["threads"]
        == 1
    )

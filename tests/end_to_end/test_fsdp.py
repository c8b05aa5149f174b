"""FSDP: parts of parameters on each process, and the weights, records and checkpoints of DDP."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lockstep.training.checkpoint.layout import list_checkpoints, shard_files
from lockstep.training.checkpoint.manifest import read_state, verify
from tests.helpers.launch import JobServer, Launch, free_port, job_server
from tests.helpers.run_records import REPRODUCED, check_equal_training, final_weights

CODE = """
import os
from pathlib import Path
import torch
from torch import nn

class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(7, 9), nn.Linear(9, 7)
    def forward(self, x):
        return x + self.two(torch.tanh(self.one(x)))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Residual() for _ in range(3))
        self.scale = nn.Parameter(torch.ones(7))
        self.head = nn.Linear(7, 3)
    def forward(self, x):
        for block in self.blocks:
            weight = self.blocks[2].one.weight
            if block is self.blocks[0] and self.training:  # the last block has not had its turn
                Path(__file__).with_name(os.environ.get("RANK", "0")).write_text(type(weight).__name__)
            x = block(x)
        return self.head(x * self.scale)

def model():
    return Net()

def loud(output, target):
    return 40 * nn.functional.cross_entropy(output, target, reduction="none")

def step(model, batch):
    x, y = batch
    return nn.functional.cross_entropy(model(x), y, reduction="none")

def data():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(99, 7, generator=draw)
    return {"train": (x[:71], x[:71].argmax(1) % 3), "val": (x[71:], x[71:].argmax(1) % 3)}
"""
CONFIG = """
data: {use: "./exp.py:data", batch_size: 16, max_micro_batch: 3}
model: {use: "./exp.py:model"}
optimizer: {use: adam, lr: 0.01}
train: {epochs: 2, precision: fp64, ema: {decay: 0.9}}
checkpoint: {every_steps: 3}
"""
EXACT = 1e-10
STRATEGIES = ("ddp", "fsdp")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "exp.py").write_text(CODE)
    (tmp_path / "exp.yaml").write_text(CONFIG)
    return tmp_path


def _train(
    launch: Launch, project: Path, world: int, strategy: str, *settings: str, name: str = ""
) -> dict[str, Any]:
    given = ("exp.yaml", f"train.strategy={strategy}", *settings, "--name", name or f"{strategy}-{world}")
    run = launch("train", *given, "--cpu", str(world), "--json", cwd=project)
    assert run.status == 0, run.err
    return run.document


def _resume(launch: Launch, project: Path, name: str, world: int, *settings: str) -> dict[str, Any]:
    run = launch("resume", name, *settings, "--cpu", str(world), "--json", cwd=project)
    assert run.status == 0, run.err
    return run.document


def test_parts_train_as_whole_parameters_do_and_go_on_on_any_number_of_processes(
    launch: Launch, project: Path
) -> None:
    """From a checkpoint of parts of weights, momenta and averages."""
    whole = _train(launch, project, 1, "ddp")
    assert (project / "0").read_text() == "Parameter"
    _train(launch, project, 2, "fsdp", "train.max_steps=5", name="begun")
    assert [(project / str(rank)).read_text() for rank in range(2)] == ["DTensor"] * 2
    cut = _resume(launch, project, "begun", 3, "train.max_steps=null")
    check_equal_training(whole, cut, EXACT)
    newest = max(Path(cut["run_dir"], "checkpoints").iterdir())
    assert sorted(path.name for path in newest.iterdir()) == sorted(
        ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json", *shard_files(3)]
    ), "the averages are in the shards, too"
    _check_evaluation(launch, cut)


def _check_evaluation(launch: Launch, trained: dict[str, Any]) -> None:
    """Of the parts, on another number of processes than those that wrote them."""
    run = launch("eval", trained["run"], "--cpu", "2", "--json")
    assert run.status == 0, run.err
    for key, value in run.document["metrics"].items():
        assert value == pytest.approx(trained["metrics"][key], rel=EXACT, abs=EXACT), key


@pytest.mark.exhaustive
@pytest.mark.parametrize("world", [2, 3, 4])
def test_parts_train_as_whole_parameters_on_as_many_processes(
    launch: Launch, project: Path, world: int
) -> None:
    runs = [_train(launch, project, world, strategy) for strategy in STRATEGIES]
    check_equal_training(*runs, EXACT)
    again = _train(launch, project, world, "fsdp", name="again")
    assert again["state_sha256"] == runs[1]["state_sha256"]
    half = _train(launch, project, world, "fsdp", "train.max_steps=4", name="half")
    assert half["steps"] == 4
    resumed = _resume(launch, project, "half", world, "train.max_steps=null")
    assert resumed["state_sha256"] == runs[1]["state_sha256"]


@pytest.mark.exhaustive
def test_a_run_goes_on_with_the_other_strategy(launch: Launch, project: Path) -> None:
    whole = _train(launch, project, 1, "ddp")
    for first, second in (STRATEGIES, STRATEGIES[::-1]):
        _train(launch, project, 2, first, "train.max_steps=5", name=f"from-{first}")
        resumed = _resume(
            launch, project, f"from-{first}", 2, "train.max_steps=null", f"train.strategy={second}"
        )
        check_equal_training(whole, resumed, EXACT)
        assert final_weights(resumed).keys() == final_weights(whole).keys()


SGD = "optimizer={use: sgd, lr: 0.1, momentum: 0.9}"
HALVES = """optimizers={a: {match: '^(blocks|scale)', use: adam, lr: 0.01}, b: {match: '^head', use: sgd, lr: 0.1}}"""
TURNS = "step=[{use: './exp.py:step', optimizer: a}, {use: './exp.py:step', optimizer: b, every: 2}]"
THAWED = "optimizer.groups=[{match: '^blocks.1', until: 3}, {match: '^head', after: 4}]"
KINDS: dict[str, tuple[list[str], float]] = {
    "a scaler that skips steps": (["train.precision=fp16", "loss.use=./exp.py:loud"], 1e-6),
    "bf16": (["train.precision=bf16"], 1e-6),
    "momentum": ([SGD], EXACT),
    "thawed and frozen at a step": ([THAWED], EXACT),
    "clipped": (["optimizer.clip_norm=0.1", "optimizer.clip_value=0.05"], EXACT),
    "two optimizers": ([HALVES], EXACT),
    "two optimizers in turn": ([HALVES, "metrics=[]", TURNS], EXACT),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_parts_train_as_whole_parameters_whatever_the_training(
    launch: Launch, project: Path, kind: str
) -> None:
    settings, tolerance = KINDS[kind]
    if HALVES in settings:
        config = CONFIG.replace("optimizer: {use: adam, lr: 0.01}\n", "")
        (project / "exp.yaml").write_text(config)
    runs = [_train(launch, project, 2, strategy, *settings) for strategy in STRATEGIES]
    check_equal_training(*runs, tolerance)
    scalers = [_newest_state(run)["scaler"] for run in runs]
    assert scalers[0] == scalers[1]
    if kind == "a scaler that skips steps":
        assert scalers[0]["scale"] < 65536, "no step was skipped: the test shows nothing"


def _newest_state(document: dict[str, Any]) -> dict[str, Any]:
    return read_state(list_checkpoints(Path(document["run_dir"], "checkpoints"))[0])


class Killed:
    """Runs of two ranks with parts, killed in the middle of a checkpoint."""

    def __init__(self, server: JobServer, spec: str, folder: Path) -> None:
        self._server, self._spec, self._folder = server, spec, folder
        self.whole = self.run(folder / "whole", None)

    def run(self, folder: Path, kill: dict[str, Any] | None) -> dict[str, Any] | None:
        """What the outcome says; None where it was killed. At any time the newest checkpoint that counts is whole."""
        folder.mkdir(exist_ok=True)
        (folder / "spec.json").write_text(self._spec)
        job = {"folder": str(folder), "world": 2, "threads": 1, "port": free_port(), "kill": kill}
        statuses = self._server.ask(job)
        if kill is not None and any(statuses):
            assert statuses[kill["rank"]] == -signal.SIGKILL, (folder / "rank-0.log").read_text()
            for path in list_checkpoints(folder / "checkpoints"):
                verify(path)
            return None
        assert statuses == [0, 0], (folder / "rank-0.log").read_text()
        assert not list((folder / "checkpoints").glob(".*")), "what was left over is swept"
        outcome = json.loads((folder / "outcome.json").read_text())
        return {key: outcome[key] for key in REPRODUCED}

    def check(self, place: str, rank: int, number: int) -> bool:
        """Whether it was killed there, and went on to the same end."""
        folder = self._folder / f"{place}-{rank}-{number}"
        if self.run(folder, {"place": place, "rank": rank, "number": number}) is not None:
            return False
        assert self.run(folder, None) == self.whole, (place, rank, number)
        return True


@pytest.fixture
def killed(launch: Launch, project: Path) -> Iterator[Killed]:
    settings = ("train.strategy=fsdp", "train.epochs=1", "checkpoint.every_steps=2", "checkpoint.keep_last=2")
    planned = launch("train", "exp.yaml", *settings, "--cpu", "2", "--dry-run", "--json", cwd=project)
    with job_server("killed_ranks", OMP_WAIT_POLICY="PASSIVE", WANDB_MODE="disabled") as server:
        yield Killed(server, json.dumps(planned.document["spec"]), project)


TABLE = [
    *(("exchange", rank, number) for rank in (0, 1) for number in range(1, 8)),
    *(("file", rank, number) for rank, most in ((0, 7), (1, 3)) for number in range(1, most)),
    *(("checkpoint", rank, number) for rank, most in ((0, 16), (1, 3)) for number in range(1, most)),
    *(("rename", 0, number) for number in range(1, 4)),
]


def test_killed_somewhere_in_a_checkpoint_it_goes_on_from_the_one_before(killed: Killed) -> None:
    draw = random.Random(15)
    others = draw.choice([point for point in TABLE if point[1] == 1])
    assert killed.check(*draw.choice([point for point in TABLE if point[1] == 0]))
    assert killed.check(*others)


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_killed_anywhere_in_a_checkpoint_it_goes_on_from_the_one_before(killed: Killed) -> None:
    assert [point for point in TABLE if not killed.check(*point)] == []


BRANCHES = """
import os
import torch
from torch import nn

RANK = int(os.environ.get("RANK", "0"))

class Block(nn.Module):
    def __init__(self, branch):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(7, 7) for _ in range(3))
        self.branch, self.passes = branch, 0
    def forward(self, x):
        self.passes += self.training and torch.is_grad_enabled()
        left = self.branch if self.passes > 3 and self.training else ""
        x = torch.tanh(self.a(x))
        b = 0 if left == "inner" and RANK or left == "swap" and RANK else self.b(x)
        return x + b + (0 if left == "swap" and not RANK else self.c(x))

class Net(nn.Module):
    def __init__(self, branch):
        super().__init__()
        self.blocks = nn.ModuleList(Block(branch) for _ in range(3))
        self.head = nn.Linear(7, 3)
        self.branch, self.passes = branch, 0
    def forward(self, x):
        self.passes += self.training and torch.is_grad_enabled()
        evaluated = not self.training and len(x) > 4  # more than a trial has
        for at, block in enumerate(self.blocks):
            late = self.branch == "skip" and self.passes > 3 and self.training
            if at == 1 and RANK == 1 and (late or self.branch == "evaluation" and evaluated):
                continue
            x = block(x)
        return self.head(x)

def model(branch):
    return Net(branch)
"""
REFUSED = {
    "skip": "in this pass the model runs blocks.2 where it ran blocks.1 in the first pass",
    "evaluation": "in this pass the model runs blocks.2 where it ran blocks.1 in the first pass",
    "inner": "the loss of this process did not reach blocks.2.b.weight, blocks.2.b.bias",
    "swap": "the loss of this process did not reach blocks.2.",
}


def _check_refused(launch: Launch, project: Path, branch: str) -> None:
    (project / "branches.py").write_text(BRANCHES)
    model = f"model={{use: './branches.py:model', args: {{branch: {branch}}}}}"
    settings = ("train.strategy=fsdp", "data.max_micro_batch=null", model)
    run = launch("train", "exp.yaml", *settings, "--cpu", "2", cwd=project)
    assert run.status == 1, run.err
    assert f"train.strategy=fsdp: {REFUSED[branch]}" in run.err


@pytest.mark.exhaustive
def test_ranks_that_would_send_each_other_other_gradients_are_refused(launch: Launch, project: Path) -> None:
    """Without a refusal, this run ends well, with weights that belong to nothing."""
    _check_refused(launch, project, "swap")


@pytest.mark.exhaustive
@pytest.mark.parametrize("branch", REFUSED)
def test_ranks_that_run_other_blocks_are_refused(launch: Launch, project: Path, branch: str) -> None:
    _check_refused(launch, project, branch)

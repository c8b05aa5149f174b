"""A step of the user's own: batches are dicts with strings, the model has no forward, the loss several terms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.data.order.sample_order import EpochOrder
from tests.helpers.launch import Launch, run_folder
from tests.helpers.run_records import DIGESTS, check_equal_training, final_weights
from tests.helpers.sessions import open_session

CODE = '''
import os, signal

class Records(torch.utils.data.Dataset):
    """Samples as dicts; the noise of each is given, as what is drawn depends on the number of processes."""
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, 7, generator=g)
        self.noise, self.weight = torch.randn(n, 2, generator=g), torch.rand(n, generator=g)
    def __len__(self): return len(self.x)
    def __getitem__(self, row):
        sample = {"x": self.x[row], "noise": self.noise[row], "weight": self.weight[row], "name": f"sample {row}"}
        return {**sample, "label": row % 2}

def records(n=53, m=17):
    return {"train": Records(n, 0), "val": Records(m, 1)}

class Vae(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(7, 4), nn.Linear(2, 7)
    def encode(self, x): return self.encoder(x).chunk(2, 1)
    def decode(self, z): return self.decoder(torch.tanh(z))

calls = 0

def step(model, batch, beta=1.0):
    global calls
    calls += 1
    if calls == int(os.environ.get("KILL_AT", "0")):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    assert all(name.startswith("sample ") for name in batch["name"]) and batch["label"].dtype == torch.int64
    mean, log_variance = model.encode(batch["x"])
    made = model.decode(mean + batch["noise"] * (log_variance / 2).exp())
    error = (made - batch["x"]).square().sum(1)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    weight = batch["weight"]
    terms = {"kl": kl, "weighted": ((error * weight).sum(), weight.sum())}
    return {"loss": error + beta * kl, "output": made, **terms}

def off(output, batch):
    return (output - batch["x"]).abs().sum(), len(output)
'''
CONFIG = """
data: {use: "./own.py:records", batch_size: 5, workers: 0}
model: {use: "./own.py:Vae"}
step: {use: "./own.py:step", args: {beta: 0.5}}
metrics: ["./own.py:off"]
optimizer: {use: sgd, lr: 0.02, momentum: 0.9}
train: {epochs: 2, precision: fp64}
log: {every_steps: 3}
checkpoint: {every_steps: 4}
"""


@pytest.fixture
def project(own: Path) -> Path:
    (own / "own.py").write_text((own / "own.py").read_text() + CODE)
    (own / "step.yaml").write_text(CONFIG)
    return own


def _by_hand(project: Path) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Train in a plain loop; return the weights and what the last epoch measured of training."""
    session = open_session(project / "step.yaml", [])
    model = session.model
    data = session.train_feed._dataset._dataset
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for epoch in range(2):
        sums = torch.zeros(3, 2, dtype=torch.float64)
        order = EpochOrder(53, 0, epoch)
        for start in range(0, 53, 5):
            rows = torch.from_numpy(order.indices(start, min(53, start + 5)))
            x, noise, weight = (part[rows].double() for part in (data.x, data.noise, data.weight))
            mean, log_variance = model.encoder(x).chunk(2, 1)
            made = model.decoder(torch.tanh(mean + noise * (log_variance / 2).exp()))
            error = (made - x).square().sum(1)
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
            loss = error + 0.5 * kl
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            parts = [(loss.sum(), len(x)), (kl.sum(), len(x)), ((error * weight).sum(), weight.sum())]
            sums += torch.stack(
                [torch.stack([torch.as_tensor(part) for part in pair]) for pair in parts]
            ).detach()
    means = (sums[:, 0] / sums[:, 1]).tolist()
    weights = {name: tensor.detach() for name, tensor in model.named_parameters()}
    return weights, dict(zip(("train/loss", "train/kl", "train/weighted"), means, strict=True))


def _train(launch: Launch, project: Path, name: str, world: int, *more: str, **env: str) -> Any:
    return launch(
        "train", "step.yaml", *more, "--cpu", str(world), "--name", name, "--json", cwd=project, env=env
    )


def test_a_step_is_a_plain_loop_on_three_processes(launch: Launch, project: Path) -> None:
    three = _train(launch, project, "three", 3, "data.max_micro_batch=1")
    assert three.status == 0, three.err
    assert "step: ./own.py:step computes the loss" in three.err
    weights, measured = _by_hand(project)
    for name, tensor in final_weights(three.document).items():
        assert torch.allclose(tensor, weights[name], rtol=0, atol=1e-12), name
    metrics = three.document["metrics"]
    for name, value in measured.items():
        assert metrics[name] == pytest.approx(value, rel=1e-12), name
    assert {"val/loss", "val/kl", "val/weighted", "val/off"} <= metrics.keys()
    assert _steps("three")[0].keys() == {"train/loss", "train/kl", "train/weighted"}


@pytest.mark.exhaustive
def test_a_step_is_the_same_after_a_kill(launch: Launch, project: Path) -> None:
    again = ("data.max_micro_batch=1", "data.workers=1")
    one = _train(launch, project, "one", 1).document
    three = _train(launch, project, "three", 3, *again).document
    check_equal_training(one, three, 1e-12)
    assert _train(launch, project, "killed", 3, *again, KILL_AT="40").status != 0
    resumed = launch("resume", "killed", "--cpu", "3", "--json", cwd=project)
    assert resumed.status == 0, resumed.err
    assert [resumed.document[key] for key in DIGESTS] == [three[key] for key in DIGESTS]
    assert resumed.document["metrics"] == three["metrics"]
    assert _steps("killed") == _steps("three")
    evaluated = launch("eval", "killed", "--cpu", "2", "--json", cwd=project)
    for name, value in evaluated.document["metrics"].items():
        assert value == pytest.approx(three["metrics"][name], rel=1e-12), name


def _steps(name: str) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (run_folder(name) / "metrics.jsonl").read_text().splitlines()]
    found = [row for row in rows if row["event"] == "step"]
    return [{key: row[key] for key in row if key.startswith("train/")} for row in found]

"""A GAN as its authors alternate it: two optimizers in turn on the same batch, each with its own loss and schedule."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lockstep.data.common.user_code import load_callable
from lockstep.data.order.sample_order import EpochOrder
from lockstep.training.components.models import build_model
from lockstep.training.config.run_spec import read_spec
from lockstep.training.session.step_seeding import seed_initialisation
from tests.helpers.launch import Launch
from tests.helpers.run_records import check_equal_training, final_weights

CODE = """
import os, signal
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

def data(n=101, m=31):
    g = torch.Generator().manual_seed(0)
    real, noise = (torch.randn(n + m, 6, generator=g, dtype=torch.float64) for _ in range(2))
    return {"train": (real[:n] + 1, noise[:n]), "val": (real[n:] + 1, noise[n:])}

class Gan(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6))
        self.discriminator = nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))

def judged(model, x, label):
    scores = model.discriminator(x)
    return bce(scores, torch.full_like(scores, label), reduction="none").mean(1)

calls = 0
def discriminator(model, batch):
    global calls
    calls += 1
    if calls == int(os.environ.get("KILL_AT", "0")):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    real, noise = batch
    genuine, made = judged(model, real, 1.0), judged(model, model.generator(noise).detach(), 0.0)
    return {"loss": genuine + made, "genuine": genuine}

def generator(model, batch):
    return judged(model, model.generator(batch[1]), 1.0)
"""
CONFIG = """
data: {use: "./gan.py:data", batch_size: 16}
model: {use: "./gan.py:Gan"}
step:
  - {use: "./gan.py:discriminator", optimizer: discriminator}
  - {use: "./gan.py:generator", optimizer: generator, every: EVERY}
optimizers:
  generator: {match: ^generator, use: adam, lr: 0.02, betas: [0.5, 0.999], schedule: {use: cosine}}
  discriminator: {use: adam, lr: 0.01, betas: [0.5, 0.999], clip_norm: 0.5}
train: {epochs: 2, precision: fp64}
checkpoint: {every_steps: 3}
log: {every_steps: 5}
"""
STEPS, PER_EPOCH, SAMPLES, BATCH = 14, 7, 101, 16


def _by_hand(document: dict[str, Any], every: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The weights after the plain loop of DCGAN's authors over the same batches; and the generator's losses."""
    spec = read_spec(Path(document["run_dir"], "spec.json"))
    steps = {
        name: load_callable(f"./gan.py:{name}", spec.base) for name in ("discriminator", "generator", "data")
    }
    seed_initialisation(spec.config.train.seed)
    model = build_model(spec.config.model, spec.facts, spec.base).double()
    real, noise = steps["data"]()["train"]
    critic = torch.optim.Adam(model.discriminator.parameters(), lr=0.01, betas=(0.5, 0.999))
    maker = torch.optim.Adam(model.generator.parameters(), lr=0.02, betas=(0.5, 0.999))
    losses = []
    for step in range(STEPS):
        at = step % PER_EPOCH * BATCH
        order = EpochOrder(SAMPLES, spec.config.train.seed, step // PER_EPOCH)
        rows = torch.from_numpy(order.indices(at, min(at + BATCH, SAMPLES)))
        batch = real[rows], noise[rows]
        model.zero_grad()
        steps["discriminator"](model, batch)["loss"].mean().backward()
        nn.utils.clip_grad_norm_(model.discriminator.parameters(), 0.5)
        critic.step()
        if (step + 1) % every == 0:
            model.zero_grad()
            maker.param_groups[0]["lr"] = 0.02 * 0.5 * (1 + math.cos(math.pi * step / STEPS))
            loss = steps["generator"](model, batch)
            loss.mean().backward()
            maker.step()
            losses.append(loss.detach())
    return {name: parameter.detach() for name, parameter in model.named_parameters()}, losses


def _last_epoch(document: dict[str, Any]) -> dict[str, Any]:
    events = map(json.loads, Path(document["run_dir"], "metrics.jsonl").read_text().splitlines())
    return [event for event in events if event["event"] == "epoch"][-1]


def _train(launch: Launch, folder: Path, every: int, *arguments: str, **env: str) -> Any:
    (folder / "gan.py").write_text(CODE)
    (folder / "gan.yaml").write_text(CONFIG.replace("EVERY", str(every)))
    return launch("train", "gan.yaml", "--json", *arguments, cwd=folder, env=env)


@pytest.mark.exhaustive
def test_a_gan_is_the_authors_loop_on_one_process_and_on_three_that_were_killed(
    launch: Launch, tmp_path: Path
) -> None:
    one = _train(launch, tmp_path, 2, "--cpu", "1")
    assert one.status == 0, one.err
    weights, losses = _by_hand(one.document, 2)
    for name, expected in weights.items():
        assert torch.allclose(final_weights(one.document)[name], expected, rtol=0, atol=1e-12), name
    epoch = _last_epoch(one.document)
    mean = float(torch.cat(losses[PER_EPOCH // 2 :]).mean())
    assert epoch["train/generator"] == pytest.approx(mean, rel=1e-12), "of the steps that it took"
    assert epoch["train/discriminator"] == pytest.approx(epoch["train/loss"], rel=1e-12)
    assert {"train/genuine", "val/genuine", "val/generator"} <= epoch.keys()
    assert _train(launch, tmp_path, 2, "--cpu", "3", "--name", "k", KILL_AT="12").status == 4
    resumed = launch("resume", "k", "--cpu", "3", "--json", cwd=tmp_path)
    assert resumed.status == 0, resumed.err
    check_equal_training(one.document, resumed.document, 1e-12)

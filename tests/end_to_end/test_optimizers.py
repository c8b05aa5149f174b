"""An optimizer of one's own with groups, freezing, thawing and clipping: on one process, on three, and after a kill."""

from __future__ import annotations

import json
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
from tests.helpers.user_project import KILLED_LOSS, USER_CODE

STEPS, THAWED, FROZEN, NORM = 20, 7, 13, 0.3
CODE = f'''{USER_CODE}{KILLED_LOSS}
class Sluggish(torch.optim.Optimizer):
    """SGD with a decaying rate, whose count of steps is a plain number."""
    def __init__(self, params, lr=0.5, weight_decay=0.0):
        super().__init__(params, {{"lr": lr, "weight_decay": weight_decay}})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    n = self.state[p]["n"] = self.state[p].get("n", 0) + 1
                    p.sub_((p.grad + group["weight_decay"] * p) * (group["lr"] / n**0.5))
'''
CONFIG = f"""
data: {{use: "./own.py:data", batch_size: 31, args: {{n: 307, m: 101}}}}
model: {{use: "./own.py:model"}}
loss: {{use: "./own.py:killed"}}
optimizer:
  use: ./own.py:Sluggish
  weight_decay: 0.1
  clip_norm: {NORM}
  layer_decay: 0.5
  groups:
    - {{max_ndim: 1, match: ^2, weight_decay: 0.0, lr: 0.25}}
    - {{match: ^0, until: {THAWED}}}
    - {{match: ^2, after: 65 %}}
train: {{epochs: 2, precision: fp64}}
checkpoint: {{every_steps: 3}}
log: {{every_steps: 4}}
"""


def _by_hand(document: dict[str, Any]) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The weights after a plain loop over the same batches, from the same start; and the norm of each gradient."""
    spec = read_spec(Path(document["run_dir"], "spec.json"))
    seed_initialisation(spec.config.train.seed)
    model = build_model(spec.config.model, spec.facts, spec.base).double()
    x, y = load_callable("./own.py:data", spec.base)(n=307, m=101)["train"]
    rates = {"0.weight": 0.25, "0.bias": 0.25, "2.weight": 0.5, "2.bias": 0.25}
    counts, norms = dict.fromkeys(rates, 0), []
    for step in range(STEPS):
        order = EpochOrder(307, spec.config.train.seed, step // 10)
        rows = torch.from_numpy(order.indices(step % 10 * 31, min(step % 10 * 31 + 31, 307)))
        model.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        trained = [
            (name, parameter)
            for name, parameter in model.named_parameters()
            if not (name.startswith("0") and step < THAWED) and not (name == "2.weight" and step >= FROZEN)
        ]
        norms.append(float(nn.utils.clip_grad_norm_([parameter for _, parameter in trained], NORM)))
        for name, parameter in trained:
            counts[name] += 1
            decay = 0.0 if name == "2.bias" else 0.1
            rate = rates[name] / counts[name] ** 0.5
            parameter.data.sub_((parameter.grad + decay * parameter.data) * rate)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}, norms


def _logged_norms(document: dict[str, Any]) -> dict[int, float]:
    events = map(json.loads, Path(document["run_dir"], "metrics.jsonl").read_text().splitlines())
    return {event["step"]: event["train/grad_norm"] for event in events if event["event"] == "step"}


def test_one_process_is_a_plain_loop_and_three_that_were_killed_are_one(
    launch: Launch, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(CODE)
    (tmp_path / "own.yaml").write_text(CONFIG)
    one = launch("train", "own.yaml", "--cpu", "1", "--json", cwd=tmp_path)
    assert one.status == 0, one.err
    weights, norms = _by_hand(one.document)
    for name, expected in weights.items():
        assert torch.allclose(final_weights(one.document)[name], expected, rtol=0, atol=1e-12), name
    killed = launch("train", "own.yaml", "--cpu", "3", "--name", "k", cwd=tmp_path, env={"KILL_AT": "13"})
    assert killed.status == 4
    resumed = launch("resume", "k", "--cpu", "3", "--json", cwd=tmp_path)
    assert resumed.status == 0, resumed.err
    check_equal_training(one.document, resumed.document, 1e-12)
    means = {
        last: sum(norms[last - n : last]) / n
        for last, n in ((4, 4), (8, 4), (10, 2), (14, 4), (18, 4), (20, 2))
    }
    for document in (one.document, resumed.document):
        assert _logged_norms(document) == pytest.approx(means, rel=1e-12)

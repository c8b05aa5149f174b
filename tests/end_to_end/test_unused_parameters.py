"""Models of which each step uses another part: a branch that depends on the batch, experts, layers that are dropped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launch import Launch, outcome_of, run_folder
from tests.helpers.run_records import DIGESTS, check_equal_training
from tests.helpers.user_project import KILLED_LOSS

MODELS = """
class Experts(nn.Module):
    '''Each sample has an expert of its own, one of them seldom, one never.'''
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(7, 4)
        self.experts = nn.ModuleList(nn.Linear(4, 2) for _ in range(4))
    def forward(self, x):
        h = torch.tanh(self.stem(x))
        out = h.new_zeros(len(x), 2)
        which = (x[:, 0] > 0.9).long() + (x[:, 0] > 1.4).long()
        for number, expert in enumerate(self.experts):
            rows = (which == number).nonzero()[:, 0]
            if len(rows):
                out = out.index_add(0, rows, expert(h[rows]))
        return out

class Dropped(nn.Module):
    '''Layers that are left out at random, on each rank others.'''
    def __init__(self):
        super().__init__()
        self.layers, self.head = nn.ModuleList(nn.Linear(7, 7) for _ in range(4)), nn.Linear(7, 2)
    def forward(self, x):
        for layer in self.layers:
            if not self.training or torch.rand(()) > 0.4:
                x = x + torch.tanh(layer(x))
        return self.head(x)
"""
SETTINGS = (
    "data.args={n: 41, m: 13}",
    "data.batch_size=4",
    "optimizer={use: sgd, lr: 0.2, momentum: 0.9, weight_decay: 0.01}",
    "metrics=[]",
)
"""The last batch is a single sample: of three ranks two have none. What is decayed tells zero from no gradient."""


def _train(launch: Launch, own: Path, model: str, world: int, *settings: str) -> dict[str, Any]:
    (own / "own.py").write_text((own / "own.py").read_text() + MODELS)
    asked = ("own.yaml", f"model.use=./own.py:{model}", *SETTINGS, *settings)
    result = launch("train", *asked, "--cpu", str(world), "--name", f"{model}-{world}", "--json", cwd=own)
    assert result.status == 0, result.err
    said = "of the 11 steps of epoch 1 the loss does not reach"
    assert (said in result.err) == ("train.unused=allow" not in settings), result.err
    return result.document


def _missed(name: str) -> Any:
    events = [json.loads(line) for line in (run_folder(name) / "metrics.jsonl").read_text().splitlines()]
    return [event["missed"] for event in events if event["event"] == "unreached"]


def test_experts_that_some_steps_and_some_ranks_do_not_use(launch: Launch, own: Path) -> None:
    one = _train(launch, own, "Experts", 1)
    many = _train(launch, own, "Experts", 3, "data.max_micro_batch=1")
    check_equal_training(one, many, 1e-12)
    assert _missed("Experts-1") == _missed("Experts-3")
    assert _missed("Experts-3")[0]["experts.3.weight"] == 11
    assert 0 < _missed("Experts-3")[0]["experts.2.weight"] < 11, "the test shows nothing"


@pytest.mark.exhaustive
def test_dropped_layers_are_the_same_after_a_kill(launch: Launch, own: Path) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + KILLED_LOSS)
    asked = ("loss.use=./own.py:killed", "checkpoint.every_steps=3")
    _train(launch, own, "Dropped", 3, *asked, "train.unused=allow")
    command = (
        "train",
        "own.yaml",
        "model.use=./own.py:Dropped",
        *SETTINGS,
        *asked,
        "--cpu",
        "3",
        "--name",
        "killed",
    )
    assert launch(*command, cwd=own, env={**os.environ, "KILL_AT": "19"}).status
    resumed = launch("resume", "killed", "--cpu", "3", cwd=own)
    assert resumed.status == 0, resumed.err
    one, other = outcome_of("Dropped-3"), outcome_of("killed")
    assert {key: one[key] for key in DIGESTS} == {key: other[key] for key in DIGESTS}


@pytest.mark.exhaustive
def test_a_part_that_is_left_out_is_refused_where_that_is_asked_for(launch: Launch, own: Path) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + MODELS)
    asked = ("own.yaml", "model.use=./own.py:Experts", *SETTINGS, "train.unused=error")
    result = launch("train", *asked, "--cpu", "2", cwd=own)
    assert result.status == 1
    assert "train.unused=error: in step 1 the loss does not reach" in result.err
    assert "experts.3.weight" in result.err

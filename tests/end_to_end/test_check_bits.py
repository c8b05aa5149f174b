"""``launch check`` with ``train.logical_ranks``: every bit is compared, and what the user left unkeyed is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launch import Launch

CODE = '''
import os
import random

import torch
from torch import nn


class Own(nn.Module):
    """A layer that does ``kind`` in training."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.calls = kind, 0
        self.draws = torch.Generator()

    def forward(self, x):
        if not self.training:
            return x
        self.calls += 1
        if self.kind == "random":
            return x * (1 + random.random())
        if self.kind == "urandom":
            self.draws.manual_seed(int.from_bytes(os.urandom(7), "big"))
            return x + 1e-3 * torch.randn(x.shape, generator=self.draws)
        if self.kind == "rank" and os.environ.get("RANK") == "1":
            return x + 1e-6
        if self.kind == "calls":
            return x * (1 + 1e-6 * self.calls)
        return x


def data(n=103, m=31):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n + m, 7, generator=g)
    y = (x.sum(1) > 0).long()
    return {"train": (x[:n], y[:n]), "val": (x[n:], y[n:])}


def model(kind="none"):
    return nn.Sequential(
        nn.Linear(7, 11), nn.BatchNorm1d(11), nn.Dropout(0.2), nn.Tanh(), Own(kind), nn.Linear(11, 2)
    )


def clip(optimizer, args, kwargs):
    with torch.no_grad():
        if os.environ.get("RANK") == "1":
            optimizer.param_groups[0]["params"][0].add_(1e-6)


def adam(parameters, lr):
    optimizer = torch.optim.Adam(parameters, lr=lr)
    optimizer.register_step_post_hook(clip)
    return optimizer
'''
CONFIG = """
data: {use: "./exp.py:data", batch_size: 31}
model: {use: "./exp.py:model"}
optimizer: {use: adam, lr: 0.01}
train: {epochs: 4, logical_ranks: 4}
"""


@dataclass(frozen=True)
class Unkeyed:
    """What is not a function of (seed, step, logical rank), and how the comparison names it."""

    settings: list[str]
    words: tuple[str, ...]
    also_failing: frozenset[str] = frozenset()


IN_STEP_1 = "in step 1 the forward of Own (4) in logical rank"
MISTAKES = {
    "a generator seeded from the system": Unkeyed(
        ["model.args.kind=urandom"],
        (f"{IN_STEP_1} 0 is the first to differ", "the gradient of 5.", "differs, too"),
        frozenset({"randomness", "resume"}),
    ),
    "Python's random": Unkeyed(
        ["model.args.kind=random"], (f"{IN_STEP_1} ", "the gradient of"), frozenset({"randomness", "resume"})
    ),
    "code that depends on the rank": Unkeyed(
        ["model.args.kind=rank"], (f"{IN_STEP_1} 2 is the first to differ", "the gradient of 5.")
    ),
    "a counter of passes": Unkeyed(
        ["model.args.kind=calls"], (f"{IN_STEP_1} ", "the gradient of"), frozenset({"randomness", "resume"})
    ),
    "an optimizer that depends on the rank": Unkeyed(
        ["optimizer.use=./exp.py:adam"], ("in step 1 0.weight after the step is the first to differ",)
    ),
}
SAMPLE = "code that depends on the rank"  # no other check sees it


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    (tmp_path / "exp.py").write_text(CODE)
    (tmp_path / "exp.yaml").write_text(CONFIG)
    return tmp_path


def _checks(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {found["check"]: found for found in document["checks"]}


def _check(launch: Launch, exp: Path, name: str) -> None:
    mistake = MISTAKES[name]
    result = launch("check", "exp.yaml", *mistake.settings, "--json", cwd=exp)
    assert result.status == 1, result.err
    checks = _checks(result.document)
    failed = {check for check, found in checks.items() if found["verdict"] == "FAIL"}
    assert failed - {"evaluation"} == {"2 against 1"} | mistake.also_failing
    if "evaluation" in failed:  # of other weights
        assert checks["evaluation"]["advice"] == "correct `2 against 1`, which failed above, first"
    for words in mistake.words:
        assert words in checks["2 against 1"]["what"]
    assert checks["2 against 1"]["advice"]
    if "Own" in mistake.words[0]:
        assert checks["2 against 1"]["where"].startswith(f"{exp / 'exp.py'}:")


@pytest.mark.exhaustive
def test_what_no_other_check_sees_is_named_with_step_layer_and_parameter(launch: Launch, exp: Path) -> None:
    _check(launch, exp, SAMPLE)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in MISTAKES if name != SAMPLE])
def test_each_unkeyed_draw_is_named(launch: Launch, exp: Path, name: str) -> None:
    _check(launch, exp, name)


@pytest.mark.exhaustive
@pytest.mark.parametrize("processes", ["2", "3"])
def test_dropout_and_batch_norm_pass_to_the_bit(launch: Launch, exp: Path, processes: str) -> None:
    result = launch("check", "exp.yaml", "--cpu", processes, "--json", cwd=exp)
    checks = _checks(result.document)
    assert {found["verdict"] for found in checks.values()} == {"PASS"}, result.err
    assert "equal to the bit, nothing switched off" in checks[f"{processes} against 1"]["what"]
    assert "the same metrics to the bit" in checks["evaluation"]["what"]


def test_more_processes_than_logical_ranks_are_refused(launch: Launch, exp: Path) -> None:
    result = launch("check", "exp.yaml", "--cpu", "5", cwd=exp)
    assert result.status == 2
    assert "train.logical_ranks=4: 5 processes cannot share so few" in result.err

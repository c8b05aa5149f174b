"""A model's two modes: what it draws, remembers and writes in evaluation, and a mode that does not last, by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.training.rank.process_group import Group
from tests.helpers.check_probe import not_passed, probe_project
from tests.helpers.evaluation_models import EVALUATION_CODE, EVALUATION_CONFIG
from tests.helpers.user_project import USER_CODE

MORE = """
class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.last, self.calls = nn.Linear(7, 2), 0
    def forward(self, x):
        self.calls += 1
        return self.last(x) * self.calls

class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(Drawing("own_torch"), nn.Linear(2, 2))
    def forward(self, x): return self.body(x)
"""
CASES: dict[str, tuple[list[str], dict[str, tuple[str, str]], str]] = {
    "a vae": (
        ["model.use=./own.py:Vae", "loss.use=./own.py:elbo", "metrics=[]"],
        {
            "model": ("NOTE", "in evaluation Vae (the whole model) draws from torch's generator"),
            "randomness": ("NOTE", "draws random numbers outside of dropout"),
        },
        "nothing",
    ),
    "a draw in a part": (
        ["model.use=./own.py:Nested"],
        {
            "model": ("NOTE", "in evaluation Drawing (body.0) draws from body.0.torch"),
            "randomness": ("FAIL", "Drawing (body.0) gives another output"),
        },
        "nothing",
    ),
    "writing": (
        ["model.use=./own.py:Writing"],
        {"model": ("NOTE", "in evaluation, too, it writes to mean, calls")},
        "all",
    ),
    "counting": (
        ["model.use=./own.py:Counting"],
        {
            "model": (
                "FAIL",
                "gives another output for the same input and weights: it keeps calls from one pass to the next",
            ),
            "randomness": ("FAIL", "input, weights and seed: it keeps calls from one pass to the next"),
        },
        "all",
    ),
    "mixing": (
        ["model.use=./own.py:Mixing"],
        {"model": ("FAIL", "takes 12 samples, but not a part of them: ValueError")},
        "modules",
    ),
    "codebook": (
        ["model.use=./own.py:Codebook"],
        {"model": ("NOTE", "it has buffers that learn from each process's own samples (codes)")},
        "all",
    ),
    "frozen by train()": (["model.use=./own.py:Frozen", "model.args.how=train"], {}, "modules"),
    "frozen in every forward": (["model.use=./own.py:Frozen", "model.args.how=forward"], {}, "modules"),
    "frozen when it was built": (
        ["model.use=./own.py:Frozen", "model.args.how=nothing"],
        {
            "model": ("NOTE", "it has batch norm: training depends on the number of processes"),
            "mode": (
                "NOTE",
                "BatchNorm1d (norm) was put into evaluation mode when it was built, but train()",
            ),
        },
        "modules",
    ),
    "auxiliary outputs": (
        ["model.use=./own.py:Auxiliary", "loss.use=./own.py:auxiliary_loss"],
        {},
        "modules",
    ),
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(USER_CODE + EVALUATION_CODE + MORE)
    (tmp_path / "own.yaml").write_text(EVALUATION_CONFIG)
    return tmp_path / "own.yaml"


@pytest.mark.parametrize("name", CASES)
def test_the_cause_is_named_and_nothing_else(config: Path, alone: Group, name: str) -> None:
    settings, expected, still = CASES[name]
    answer = probe_project(config, alone, settings)
    found = not_passed(answer)
    assert found.keys() == expected.keys()
    for check, (verdict, words) in expected.items():
        assert found[check]["verdict"] == verdict
        assert words in found[check]["what"]
    assert answer["still"] == still
    assert "mode" not in found or "self.norm.eval()" in found["mode"]["advice"]


def test_a_tail_of_one_sample_is_refused_where_the_norm_trains(config: Path, alone: Group) -> None:
    probe_project(config, alone, [*CASES["frozen in every forward"][0], "data.batch_size=3"])
    with pytest.raises(UsageError, match="batch norm"):
        probe_project(config, alone, [*CASES["frozen when it was built"][0], "data.batch_size=3"])

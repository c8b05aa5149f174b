"""What ``launch check`` says of hooks: each is called once, and a write to the model is found however it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lockstep.training.rank.process_group import Group
from tests.helpers.check_probe import probe_project

CODE = """
def honest(state):
    with state.evaluating():
        out = state.model(torch.ones(2, 7, dtype=torch.float32))
    gradient = next(state.model.parameters()).grad
    state.log("mean", (out.sum() + gradient.norm(), state.metrics["val/accuracy"]))
    return {"calls": (state.saved or {"calls": 0})["calls"] + 1}

def hidden(state):
    next(state.model.parameters()).data.mul_(2)

def open_write(state):
    next(state.model.parameters()).mul_(2)

def raising(state):
    return state.metrics["val/nothing"]

def unkept(state):
    return {"what": object()}
"""


def _found(own: Path, alone: Group, hooks: str) -> dict[str, Any]:
    (own / "own.py").write_text((own / "own.py").read_text() + CODE)
    answer = probe_project(own / "own.yaml", alone, [f"hooks={hooks}", "train.precision=fp32"])
    (found,) = (one for one in answer["findings"] if one["check"] == "hooks")
    return dict(found)


def test_hooks_that_only_read_pass_in_the_precision_of_the_run(own: Path, alone: Group) -> None:
    found = _found(own, alone, "{on_step: ./own.py:honest, on_evaluate: ./own.py:honest}")
    assert (found["verdict"], found["what"]) == (
        "PASS",
        "on_step, on_evaluate: the model is as it was before each of them",
    )


@pytest.mark.parametrize(
    ("hook", "what"),
    [
        ("hidden", "hooks.on_step = ./own.py:hidden changed 0.weight"),
        ("open_write", "changed the model: its mode, a parameter or a buffer"),
        ("raising", "raised"),
        ("unkept", "object"),
    ],
)
def test_a_hook_that_a_run_cannot_have_is_named(own: Path, alone: Group, hook: str, what: str) -> None:
    found = _found(own, alone, f"{{on_step: './own.py:{hook}'}}")
    assert found["verdict"] == "FAIL"
    assert what in found["what"]

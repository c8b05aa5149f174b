"""With a step every fraction of a batch has the model's type; with a loss the target keeps its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from lockstep.training.session.first_batch import first_batch
from tests.helpers.sessions import open_session

CODE = """
def step(model, batch):
    return (model(batch[0])[:, 0] - batch[1]).square()

def squared(output, target):
    return (output[:, 0] - target).square()

class Pairs(torch.utils.data.Dataset):
    def __init__(self, tree): self.tree = tree
    def __len__(self): return 20
    def __getitem__(self, row):
        x, y = torch.full((7,), float(row)), torch.tensor(float(row))
        return (x, {"y": y, "of": [y.half(), row]}) if self.tree else (x, y)

def pairs(tree=False):
    return {"train": Pairs(tree), "val": Pairs(tree)}

def tensors():
    x, y = torch.rand(20, 7), torch.rand(20)
    return {"train": (x, y), "val": (x, y)}
"""


def _types(own: Path, *settings: str) -> set[torch.dtype]:
    (own / "own.py").write_text((own / "own.py").read_text() + CODE)
    session = open_session(own / "own.yaml", ["data.batch_size=4", "metrics=[]", *settings])
    leaves: list[Any] = tree_leaves(first_batch(session))
    return {leaf.dtype for leaf in leaves if leaf.is_floating_point()}


@pytest.mark.parametrize(
    "data",
    [
        ("data.use=./own.py:pairs",),
        ("data.use=./own.py:pairs", "data.args={tree: true}"),
        ("data.use=./own.py:tensors",),
    ],
    ids=["pairs", "trees", "tensors"],
)
def test_a_step_gets_every_fraction_in_the_models_type(own: Path, data: tuple[str, ...]) -> None:
    assert _types(own, *data, "step=./own.py:step") == {torch.float64}


@pytest.mark.parametrize("data", ["pairs", "tensors"])
def test_the_target_of_a_loss_keeps_its_type(own: Path, data: str) -> None:
    found = _types(own, f"data.use=./own.py:{data}", "loss.use=./own.py:squared")
    assert found == {torch.float64, torch.float32}

"""``launch check`` of a step: the loss and its terms are cut into parts as a loss is."""

from __future__ import annotations

from pathlib import Path

from lockstep.training.rank.process_group import Group
from tests.helpers.check_probe import not_passed, probe_project

CODE = """
class Pairs(torch.utils.data.Dataset):
    def __len__(self): return 23
    def __getitem__(self, row): return {"x": torch.randn(7), "row": row, "name": str(row)}

def pairs(): return {"train": Pairs()}

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(7, 2)

def honest(model, batch):
    out = model.first(batch["x"]).square()
    return {"loss": out.sum(1), "half": (out.sum() / 2, len(out)), "output": out}

def mean(model, batch):
    return {**honest(model, batch), "half": model.first(batch["x"]).mean().expand(len(batch["x"]))}

def drawing(model, batch):
    return model.first(batch["x"] + torch.randn_like(batch["x"])).sum(1)
"""


def _probe(own: Path, alone: Group, step: str) -> dict[str, dict[str, str]]:
    (own / "own.py").write_text((own / "own.py").read_text() + CODE)
    settings = ["data.use=./own.py:pairs", "model.use=./own.py:Model", f"step=./own.py:{step}", "metrics=[]"]
    return not_passed(probe_project(own / "own.yaml", alone, settings))


def test_an_honest_step_has_nothing_to_note(own: Path, alone: Group) -> None:
    assert list(_probe(own, alone, "honest")) == ["labels"]


def test_a_term_that_is_a_mean_is_named(own: Path, alone: Group) -> None:
    found = _probe(own, alone, "mean")
    assert found["term half"]["verdict"] == "FAIL"
    assert "all samples get the same number, as of a mean" in found["term half"]["what"]
    assert "loss" not in found


def test_of_a_step_that_draws_it_is_said_that_nothing_is_known(own: Path, alone: Group) -> None:
    found = _probe(own, alone, "drawing")
    assert found["loss"]["verdict"] == "NOTE"
    assert "the step draws from torch's generator" in found["loss"]["what"]

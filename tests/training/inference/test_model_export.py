"""Exported models: what the model is called with, which sizes stay free, and that another answer is noticed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lockstep.data.common import TrainingError, UsageError
from lockstep.training.inference.exported_model import differences
from lockstep.training.inference.model_calls import record_calls
from lockstep.training.inference.model_export import ExportRequest, _checked, _exported
from tests.helpers.sessions import open_session

MODEL = """
class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(7, 11), nn.BatchNorm1d(11), nn.Dropout(0.5), nn.Linear(11, 2))
    def forward(self, *, x):
        return {"scores": self.net(x)}

def named():
    return Named()

def step(model, batch):
    return nn.functional.cross_entropy(model(x=batch[0])["scores"], batch[1], reduction="none")

def partial(model, batch):
    return nn.functional.cross_entropy(model.net(batch[0]), batch[1], reduction="none")
"""


def project(own: Path, step: str = "step"):
    (own / "own.py").write_text((own / "own.py").read_text() + MODEL)
    session = open_session(own / "own.yaml", ["model.use=./own.py:named", f'step={{use: "./own.py:{step}"}}'])
    session.model.eval()
    return session


def test_the_models_own_call_is_exported_with_a_free_batch_and_another_answer_is_noticed(
    own: Path, tmp_path: Path
) -> None:
    session = project(own)
    calls = record_calls(session, "val")
    assert [call.samples for call in calls] == [8, 5, 1]
    assert calls[0].described() == [{"name": "[0]['x']", "dtype": "float64", "shape": ["batch", 7]}]
    assert torch.equal(calls[0].kwargs["x"][:5], calls[1].kwargs["x"])
    assert torch.equal(calls[0].answer[0], session.model(x=calls[0].kwargs["x"])["scores"])
    file = tmp_path / "model.pt2"
    torch.export.save(_exported(session, calls), file)
    assert max(differences(str(file), "torch-export", [call.saved() for call in calls])) <= 1e-6
    x = torch.randn(33, 7, dtype=torch.float64)
    with torch.no_grad():
        answer = torch.export.load(file).module()(x=x)["scores"]
        assert torch.equal(answer, session.model(x=x)["scores"])
    wrong = [replace(calls[0], answer=[calls[0].answer[0] + 1e-5])]
    with pytest.raises(TrainingError, match="answers a batch of 8 with other numbers"):
        _checked(ExportRequest(tmp_path, None, "torch-export", file, None), wrong)
    assert sorted(path.name for path in tmp_path.glob("model*")) == ["model.pt2"]


def test_a_step_that_never_calls_the_model_is_told_so(own: Path) -> None:
    with pytest.raises(UsageError, match="never calls the whole of Named"):
        record_calls(project(own, "partial"), "val")

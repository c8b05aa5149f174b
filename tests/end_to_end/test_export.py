"""Exported models of real runs: loaded without our code and without the user's, they answer as the run's own does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.launch import WATCHDOG, Launch, outcome_of

MODEL = """
class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(7, 11), nn.BatchNorm1d(11), nn.Dropout(0.5), nn.Linear(11, 2))
    def forward(self, x):
        return self.net(x)

def net():
    return Branching()

def step(model, batch):
    x, y = batch
    output = model(x)
    return {"loss": nn.functional.cross_entropy(output, y, reduction="none"), "output": output}
"""
ANSWER = """
import sys, torch
model = torch.export.load(sys.argv[1]).module()
x = torch.linspace(-1, 1, 21, dtype=torch.float64).view(3, 7)
torch.save((model(x), model(x[:1]), model(x.repeat(5, 1))), sys.argv[2])
assert not [name for name in sys.modules if name.startswith(("lockstep", "own"))]
"""


@pytest.mark.exhaustive
def test_exported_models_answer_as_the_run_does(launch: Launch, own: Path) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + MODEL)
    settings = ["model.use=./own.py:net", "train.ema={decay: 0.9}", "train.epochs=1", "tracking=[]"]
    trained = launch("train", "own.yaml", "--cpu", "1", "--name", "e", *settings, cwd=own)
    assert trained.status == 0, trained.err
    plain = launch("export", "e", "--no-ema", "--out", "trained.safetensors", "--json", cwd=own)
    assert plain.document["weights_sha256"] == outcome_of("e")["weights_sha256"]
    averaged = launch("export", "e", "--ema", "--checkpoint", "last", cwd=own)
    assert averaged.status == 0, averaged.err
    assert "averaged weights of e step_00000033" in averaged.out
    weights = load_file(own / "e-step33.safetensors")
    assert not torch.equal(weights["net.0.weight"], load_file(own / "trained.safetensors")["net.0.weight"])
    program = launch("export", "e", "--format", "torch-export", "--json", cwd=own)
    assert program.status == 0, program.err
    document = program.document
    assert document["batch_sizes"] == [8, 5, 1]
    assert document["largest_difference"] <= 1e-6
    assert document["inputs"] == [{"name": "[0]", "dtype": "float64", "shape": ["batch", 7]}]
    command = [sys.executable, "-c", ANSWER, "e-step33.pt2", "answer.pt"]
    subprocess.run(command, cwd=own, check=True, timeout=WATCHDOG)
    three, one, fifteen = torch.load(own / "answer.pt")
    namespace: dict = {}
    exec((own / "own.py").read_text(), namespace)
    model = namespace["net"]().double().eval()
    model.load_state_dict(weights)
    x = torch.linspace(-1, 1, 21, dtype=torch.float64).view(3, 7)
    assert torch.allclose(three, model(x), rtol=0, atol=1e-12)
    assert torch.allclose(one, model(x)[:1], rtol=0, atol=1e-12)
    assert torch.allclose(fifteen, model(x).repeat(5, 1), rtol=0, atol=1e-12)
    again = launch("export", "e", "--format", "torch-export", cwd=own)
    assert (again.status, again.out) == (2, "")
    assert "e-step33.pt2 is there already" in again.err
    left = sorted(path.name for path in own.iterdir() if path.name.startswith("."))
    assert left == []


@pytest.mark.exhaustive
def test_a_model_that_branches_on_values_is_refused_and_leaves_no_file(launch: Launch, own: Path) -> None:
    branching = MODEL.replace("return self.net(x)", "return self.net(x) if x.sum() > 0 else -self.net(x)")
    (own / "own.py").write_text((own / "own.py").read_text() + branching)
    settings = ["model.use=./own.py:net", "train.epochs=1", "tracking=[]"]
    trained = launch("train", "own.yaml", "--cpu", "1", "--name", "e", *settings, cwd=own)
    assert trained.status == 0, trained.err
    refused = launch("export", "e", "--format", "torch-export", "--out", "x.pt2", cwd=own)
    assert (refused.status, refused.out) == (1, "")
    assert "torch.export cannot follow Branching" in refused.err
    assert not (own / "x.pt2").exists()


@pytest.mark.exhaustive
def test_onnx_answers_the_same_and_a_step_may_call_the_model(launch: Launch, own: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra lockstep-train[onnx] is not installed")
    (own / "own.py").write_text((own / "own.py").read_text() + MODEL)
    settings = [
        "model.use=./own.py:net",
        'step={use: "./own.py:step"}',
        "train.epochs=1",
        "tracking=[]",
    ]
    trained = launch("train", "own.yaml", "--cpu", "1", "--name", "e", *settings, cwd=own)
    assert trained.status == 0, trained.err
    exported = launch("export", "e", "--format", "onnx", "--checkpoint", "33", "--json", cwd=own)
    assert exported.status == 0, exported.err
    assert json.loads(exported.out)["largest_difference"] <= 1e-6
    session = onnxruntime.InferenceSession(str(own / "e-step33.onnx"))
    x = torch.linspace(-1, 1, 14, dtype=torch.float64).view(2, 7)
    (answer,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert answer.shape == (2, 2)

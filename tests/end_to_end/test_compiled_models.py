"""A compiled model: its checkpoints are the plain one's, and old ones with the compiler's names still resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from lockstep.training.checkpoint.layout import list_checkpoints
from lockstep.training.checkpoint.manifest import write_manifest
from tests.helpers.launch import Launch, outcome_of, run_folder

CODE = """
def wrapped(parts=False):
    net = model()
    if parts:
        net[0] = torch.compile(net[0], backend="eager")
        net[2] = nn.DataParallel(net[2])
        return net
    return nn.DataParallel(torch.compile(net, backend="eager"))
"""


def _as_before(checkpoint: Path) -> None:
    """Give a checkpoint the names that it had before."""
    (checkpoint / "manifest.json").unlink()
    layout = {}
    for path in checkpoint.glob("*.safetensors"):
        tensors = {f"_orig_mod.{key}": value for key, value in load_file(path).items()}
        save_file(tensors, path)
        layout[path.name] = dict.fromkeys(tensors, "")
    write_manifest(checkpoint, json.loads((checkpoint / "state.json").read_text()), layout)


@pytest.mark.exhaustive
@pytest.mark.parametrize("parts", [False, True])
def test_a_compiled_model_ends_with_the_plain_ones_weights(launch: Launch, own: Path, *, parts: bool) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + CODE)
    settings = ("data.args={n: 61, m: 13}", "--cpu", "2")
    compiled = ("model.use=./own.py:wrapped", f"model.args.parts={json.dumps(parts)}")
    assert launch("train", "own.yaml", *settings, "--name", "plain", cwd=own).status == 0
    result = launch("train", "own.yaml", *compiled, *settings, "--name", "wrapped", cwd=own)
    assert result.status == 0, result.err
    assert outcome_of("wrapped")["state_sha256"] == outcome_of("plain")["state_sha256"]

    first, last = list_checkpoints(run_folder("wrapped") / "checkpoints")
    for path in (first, last):
        _as_before(path)
    resumed = launch("resume", "wrapped", "train.epochs=3", "--cpu", "2", cwd=own)
    assert resumed.status == 0, resumed.err
    assert launch("resume", "plain", "train.epochs=3", "--cpu", "2", cwd=own).status == 0
    assert outcome_of("wrapped")["state_sha256"] == outcome_of("plain")["state_sha256"]

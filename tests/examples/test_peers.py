"""The examples as Accelerate and Lightning programs: what docs/migration.md says of them is counted and run."""

from __future__ import annotations

import ast
import json
import math
import os
import struct
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, DistributedSampler

from lockstep.data.sources.digits import draw_digits
from tests.examples.line_counts import PEERS, imported_from_exp, line_table, written_table
from tests.examples.test_examples import EXAMPLES, Example, _project
from tests.helpers.launch import Launch, run_command
from tests.helpers.paths import ROOT

MADE_SMALL = ("data.args.", "model.args.", "step.args.")
CLOSE = 1e-3
"""Of the loss: fp32, and sums in another order."""
DRAWN = ("siamese", "contrastive", "finetune", "kfold")
"""Examples whose samples are drawn, or cut into folds, by each tool in its own way."""
NO_VALIDATION = ("dcgan",)
DEFAULT = ("vae", "accelerate")
"""The one that the default run trains."""


def arguments_of(example: Example) -> dict[str, dict[str, Any]]:
    """What makes the functions of ``exp.py`` small: function to arguments."""
    found: dict[str, dict[str, Any]] = {}
    uses = yaml.safe_load((ROOT / "examples" / example.name / "exp.yaml").read_text())
    for setting in small_settings(example):
        key, _, value = setting.partition("=")
        section, _, name = key.split(".")
        file, _, function = uses[section]["use"].partition(":")
        if file == "./exp.py":
            found.setdefault(function, {})[name] = yaml.safe_load(value)
    return found


def small_settings(example: Example) -> list[str]:
    return [setting for setting in example.settings if setting.startswith(MADE_SMALL)]


def prepare_peer(example: Example, folder: Path) -> None:
    """Write the drawn digits where torchvision looks for MNIST."""
    if "torchvision.datasets" not in (folder / "with_accelerate.py").read_text():
        return
    sizes = dict(setting.split("=") for setting in example.settings)
    raw = folder / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file, split in (("train", "train"), ("t10k", "val")):
        count = int(sizes[f"data.args.{split}"])
        images, labels = draw_digits(0, split, np.arange(count, dtype=np.int64))
        head = struct.pack(">4I", 2051, count, 28, 28)
        (raw / f"{file}-images-idx3-ubyte").write_bytes(head + images.astype(np.uint8).tobytes())
        (raw / f"{file}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2I", 2049, count) + labels.astype(np.uint8).tobytes()
        )


def _metrics_package(example: Example, peer: str) -> str | None:
    text = (ROOT / "examples" / example.name / f"with_{peer}.py").read_text()
    return "torchmetrics" if "torchmetrics" in text else None


def _rows() -> list[Any]:
    return [
        pytest.param(
            example,
            peer,
            id=f"{example.name}-{peer}",
            marks=[
                *([] if (example.name, peer) == DEFAULT else [pytest.mark.exhaustive]),
                *(
                    pytest.mark.skipif(find_spec(name) is None, reason=f"needs {name}")
                    for name in (peer, _metrics_package(example, peer), example.needs)
                    if name is not None
                ),
            ],
        )
        for example in EXAMPLES
        if (ROOT / "examples" / example.name / "with_lightning.py").exists()
        for peer in PEERS
    ]


def test_the_table_counts_what_is_there() -> None:
    assert written_table() == line_table(), "python -m tests.examples.line_counts"


def test_both_peers_share_the_same_part_and_are_scripts_as_their_documentation_has_them() -> None:
    folders = [path.parent for path in ROOT.glob("examples/*/with_lightning.py")]
    assert len(folders) >= 14
    for folder in folders:
        lightning, accelerate = (folder / f"with_{peer}.py" for peer in PEERS)
        assert imported_from_exp(lightning) == imported_from_exp(accelerate), folder.name
        calls = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(accelerate.read_text()))
            if isinstance(node, ast.Call)
        }
        assert calls >= {"accelerator.prepare", "accelerator.backward", "accelerator.save_state"}, folder.name
        assert "lockstep" not in lightning.read_text() + accelerate.read_text()


@pytest.mark.parametrize(("example", "peer"), _rows())
def test_a_peer_learns_what_lockstep_does(
    example: Example, peer: str, launch: Launch, tmp_path: Path
) -> None:
    folder = _project(example, tmp_path / "project")
    prepare_peer(example, folder)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    command = [sys.executable, "-m", "tests.examples.peer_program", peer, json.dumps(arguments_of(example))]
    done = run_command(command, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    losses = json.loads(done.stdout.splitlines()[-1])
    assert losses
    assert all(map(math.isfinite, losses.values())), losses
    if example.name in (*DRAWN, *NO_VALIDATION):
        return
    settings = ["train.precision=fp32", "data.workers=0", *small_settings(example)]
    run = launch("train", "exp.yaml", *settings, "--cpu", "1", "--json", cwd=folder)
    assert run.status == 0, run.err
    assert losses["val_loss"] == pytest.approx(run.document["metrics"]["val/loss"], rel=CLOSE)


def test_samplers_of_the_peers_repeat_samples() -> None:
    samples = range(130)
    torchs = [len(DistributedSampler(samples, num_replicas=3, rank=rank)) for rank in range(3)]
    assert sum(torchs) == 132
    batches = BatchSampler(samples, 21, drop_last=False)
    given = [sum(map(len, BatchSamplerShard(batches, 3, rank))) for rank in range(3)]
    assert sum(given) > 130

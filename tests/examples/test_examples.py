"""The examples: weights as those of a hand-written loop on one and three processes, equal to the bit after a kill."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from tests.examples.loops import LOOPS, batches_of
from tests.helpers.killed_runs import run_ranks
from tests.helpers.launch import JobServer, Launch, job_server
from tests.helpers.paths import ROOT
from tests.helpers.run_records import final_weights
from tests.helpers.sessions import open_session

EXACT = 1e-12
SAMPLE = 1  # examples in the default run
FP64 = ("train.precision=fp64", "train.seed=5", "wandb.mode=disabled", "data.workers=0")
DIGITS = ("data.args.train=130", "data.args.val=20")


def _no_files(folder: Path) -> None:
    """An example that makes its data."""


def _houses(folder: Path) -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(90, 3)).round(3)
    lines = [",".join(map(str, [*row, round(float(row.sum()), 3)])) for row in rows]
    (folder / "houses.csv").write_text("\n".join(["size,age,rooms,price", *lines]))


def _pretrained(folder: Path) -> None:
    from torchvision.models import resnet18

    torch.manual_seed(1)
    save_file(resnet18().state_dict(), folder / "pretrained.safetensors")


@dataclass(frozen=True)
class Example:
    """How an example is made small, and which parts of it depend on the number of processes by their nature."""

    name: str
    settings: tuple[str, ...]
    epochs: int = 2
    files: Callable[[Path], None] = _no_files
    needs: str | None = None
    worlds: tuple[int, ...] = (1, 3)
    kill_at: int = 3
    """Of the run's steps; the last checkpoint before is that of the step before it."""


EXAMPLES = (
    Example("mnist_cnn", (*DIGITS, "model.args.width=2", "model.args.dropout=0")),
    Example(
        "char_transformer",
        ("model.args.width=8", "model.args.layers=1", "model.args.heads=2", "optimizer.eps=1e-4"),
    ),
    Example("segmentation", ("data.args.train=35", "data.args.val=8", "data.args.side=12")),
    Example("vae", (*DIGITS, "model.args.width=16", "step.args.noise=0")),
    Example("dcgan", ("model.args.width=2", "data.batch_size=96"), epochs=1),
    Example("siamese", ("data.args.samples=160",)),
    Example("bert", ("data.args.train=35", "data.args.val=8"), needs="transformers"),
    Example("csv_regression", (), files=_houses),
    Example("distillation", DIGITS),
    Example("finetune", ("data.args.samples=72",), files=_pretrained, epochs=1, worlds=(1,), kill_at=2),
    Example("contrastive", ("data.args.samples=130",)),
    Example("detection", ("data.args.train=35", "data.args.val=8")),
    Example("kfold", ()),
    Example("mixture", ()),
    Example("lstm", ("data.args.samples=90", "schedule={use: constant}")),
)


def _parameters(*, sampled: bool = True) -> list[Any]:
    chosen = random.Random(15).sample(EXAMPLES, SAMPLE)
    return [
        pytest.param(
            example,
            id=example.name,
            marks=[
                *([] if sampled and example in chosen else [pytest.mark.exhaustive]),
                pytest.mark.skipif(
                    example.needs is not None and find_spec(example.needs) is None,
                    reason=f"needs {example.needs}",
                ),
            ],
        )
        for example in EXAMPLES
    ]


def _project(example: Example, folder: Path) -> Path:
    shutil.copytree(ROOT / "examples" / example.name, folder)
    example.files(folder)
    return folder


def test_every_example_is_tested_and_short() -> None:
    folders = [path for path in (ROOT / "examples").iterdir() if path.is_dir()]
    assert {path.name for path in folders} == {example.name for example in EXAMPLES} == set(LOOPS)
    for path in folders:
        python, config = (path / "exp.py").read_text(), (path / "exp.yaml").read_text()
        assert len([line for line in python.splitlines() if line.strip()]) <= 30, path.name
        assert len(config.splitlines()) <= 12, path.name
        assert isinstance(yaml.safe_load(config), dict)


@pytest.mark.parametrize("example", _parameters())
def test_an_example_learns_what_a_hand_written_loop_does(
    example: Example, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _project(example, tmp_path / "project")
    monkeypatch.chdir(folder)
    settings = [*FP64, *example.settings, f"train.epochs={example.epochs}"]
    runs = []
    for world in example.worlds:
        run = launch("train", "exp.yaml", *settings, "--cpu", str(world), "--json", cwd=folder)
        assert run.status == 0, run.err
        runs.append(final_weights(run.document))
    session = open_session(folder / "exp.yaml", settings)
    model = copy.deepcopy(session.model)
    model.train()
    more = dict(getattr(session, "frozen", {}))
    trained = LOOPS[example.name](model, list(batches_of(session, example.epochs)), more)
    expected = trained.state_dict()
    for weights in runs:
        assert weights.keys() <= expected.keys()
        for name, tensor in weights.items():
            torch.testing.assert_close(
                tensor, expected[name], rtol=0, atol=EXACT, msg=lambda text, at=name: f"{at}: {text}"
            )


@pytest.fixture(scope="module")
def ranks() -> Iterator[JobServer]:
    with job_server("killed_ranks", OMP_WAIT_POLICY="PASSIVE", WANDB_MODE="disabled") as server:
        yield server


@pytest.mark.exhaustive
@pytest.mark.parametrize("example", _parameters(sampled=False))
def test_an_example_killed_and_resumed_ends_as_the_undisturbed(
    example: Example, launch: Launch, ranks: JobServer, tmp_path: Path
) -> None:
    folder = _project(example, tmp_path / "project")
    often = f"checkpoint.every_steps={example.kill_at - 1}"
    settings = [*FP64, *example.settings, f"train.epochs={example.epochs}", often]
    asked = launch("train", "exp.yaml", *settings, "--cpu", "1", "--dry-run", "--json", cwd=folder)
    assert asked.status == 0, asked.err
    spec = json.dumps(asked.document["spec"])
    for world in (1, 2):
        undisturbed = run_ranks(ranks, tmp_path / f"{world}", spec, world, None, cwd=folder)
        killed = run_ranks(ranks, tmp_path / f"{world}-killed", spec, world, example.kill_at, cwd=folder)
        assert killed == undisturbed

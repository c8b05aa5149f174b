"""Training on shards: the same rows, order and weights on any number of processes, after any kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lockstep.data.order.row_groups import RowGroups
from lockstep.data.order.window_order import WindowOrder
from tests.helpers.launch import Launch
from tests.helpers.run_records import DIGESTS, check_equal_training, final_weights
from tests.helpers.shard_files import write_json_lines, write_parquet, write_tar
from tests.helpers.user_project import train_own, write_killable_project

N, BATCH = 503, 31
CODE = """
import random, torch
from torch import nn

def model():
    made = nn.Sequential(nn.Linear(3, 10))
    nn.init.zeros_(made[0].weight), nn.init.zeros_(made[0].bias)
    return made

class Scaling(nn.Linear):
    # Row numbers are up to a thousand: sums of such inputs round in the twelfth place.
    def __init__(self):
        super().__init__(3, 10)
    def forward(self, x):
        return super().forward(x * x.new_tensor([1 / 1024, 1, 1]))

def scaled(row): return torch.tensor([row['x'][0] / 1000, row['x'][1], row['x'][2]]), row["label"]

def decode(row): return torch.tensor([row['x'][1], row['x'][2], random.random()]), row["label"]
"""
CONFIG = """
data:
  use: shards
  args: {files: "train/*.jsonl", val_files: "val/*.jsonl", input: x, target: label, window: 6}
  batch_size: 31
  workers: 2
model: {use: "./own.py:model"}
loss: {use: "./own.py:killed"}
optimizer: {use: sgd, lr: 0.01, momentum: 0.9}
train: {epochs: 2, precision: fp64}
checkpoint: {every_steps: 5}
wandb: {mode: disabled}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_killable_project(tmp_path, CODE, CONFIG)
    write_json_lines(tmp_path / "val", 101, 2)
    return tmp_path


def _resume(launch: Launch, project: Path, world: int, name: str) -> Any:
    resumed = launch("resume", name, "--cpu", str(world), "--json", cwd=project)
    assert resumed.status == 0, resumed.err
    return resumed.document


def _by_hand(paths: list[Path]) -> list[torch.Tensor]:
    """Train as a loop over the order does, which is made of the sizes of the row groups alone."""
    from pyarrow import parquet

    footers = [parquet.read_metadata(path) for path in paths]
    sizes = [
        footer.row_group(number).num_rows for footer in footers for number in range(footer.num_row_groups)
    ]
    order = WindowOrder(RowGroups.at(np.cumsum([0, *sizes], dtype=np.int64)), BATCH, 6)
    weight, bias = (torch.zeros(shape, dtype=torch.float64, requires_grad=True) for shape in ((10, 3), (10,)))
    optimizer = torch.optim.SGD([weight, bias], lr=0.01, momentum=0.9)
    for epoch in range(2):
        for start in range(0, N, BATCH):
            numbers = torch.from_numpy(order.indices(np.arange(start, min(N, start + BATCH)), 0, epoch))
            real = numbers.double()
            x = torch.stack([real / 1000, real % 7 / 7, torch.ones_like(real)], 1)
            loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, numbers % 10)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return [weight.detach(), bias.detach()]


def test_a_killed_run_that_goes_on_with_fewer_processes_is_that_of_a_hand_written_loop(
    launch: Launch, project: Path
) -> None:
    paths = write_parquet(project / "train", N, 5, group=20)
    asked = ["data.args={files: 'train/*.parquet', decode: './own.py:scaled', window: 6}", "data.workers=0"]
    assert train_own(launch, project, 3, "killed", *asked, KILL_AT="13").status != 0
    two = _resume(launch, project, 2, "killed")
    assert two["samples"] == sum(two["ranks"]) == 2 * N
    weight, bias = _by_hand(paths)
    trained = final_weights(two)
    assert torch.allclose(trained["0.weight"], weight, rtol=0, atol=1e-12)
    assert torch.allclose(trained["0.bias"], bias, rtol=0, atol=1e-12)


@pytest.mark.exhaustive
@pytest.mark.parametrize("data", ["parquet", "jsonl", "decode", "tar"])
def test_any_number_of_processes_and_any_kill_train_the_same(
    launch: Launch, project: Path, data: str
) -> None:
    if data == "parquet":
        write_parquet(project / "train", N, 5, group=20)
    elif data == "tar":
        write_tar(project / "train", N, 12)
        write_tar(project / "val", 101, 2)
    else:
        write_json_lines(project / "train", N, 12)
    ending = "jsonl" if data == "decode" else data
    args = {
        "files": f"train/*.{ending}",
        "val_files": f"val/*.{'tar' if data == 'tar' else 'jsonl'}",
        "window": 6,
    }
    columns = {"input": "npy", "target": "cls"} if data == "tar" else {"input": "x", "target": "label"}
    args |= {"decode": "./own.py:decode"} if data == "decode" else columns
    given = f"data.args={json.dumps(args)}"
    asked = (given, "model.use=./own.py:Scaling")
    whole = {world: train_own(launch, project, world, f"w{world}", *asked).document for world in (1, 2, 3, 7)}
    for world in (2, 3, 7):
        check_equal_training(whole[1], whole[world], 1e-12)
    for kill_at in ("2", "8", "29"):
        assert train_own(launch, project, 3, f"killed{kill_at}", *asked, KILL_AT=kill_at).status != 0
        resumed = _resume(launch, project, 3, f"killed{kill_at}")
        assert [resumed[key] for key in DIGESTS] == [whole[3][key] for key in DIGESTS]


@pytest.mark.exhaustive
def test_a_shard_that_is_cut_off_under_way_ends_the_run_by_name(launch: Launch, project: Path) -> None:
    paths = write_json_lines(project / "train", N, 12)
    code = f"\nfrom pathlib import Path\nPath({str(paths[6])!r}).write_text('{{')\n"
    write_killable_project(project, CODE + code, CONFIG)  # when the ranks build the model
    result = train_own(launch, project, 2, "cut", "train.epochs=1")
    assert result.status == 6
    assert "train/006.jsonl, row group 0: the file was changed" in result.err + result.out

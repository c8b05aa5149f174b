"""Training goes on without the samples that cannot be read, the same on any number of processes and after any kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.launch import Launch
from tests.helpers.run_records import DIGESTS, check_equal_training
from tests.helpers.user_project import train_own, write_killable_project

N, VAL = 60, 14
BAD = {"train": (3, 17, 41), "val": (0, 9)}
CODE = """
import torch
from torch import nn

def model():
    made = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    nn.init.zeros_(made[1].weight), nn.init.zeros_(made[1].bias)
    return made
"""
CONFIG = """
data:
  use: csv_images
  args: {root: images, train_csv: train.csv, val_csv: val.csv}
  on_bad: skip
  max_bad: 3
  batch_size: 8
  workers: 1
  cache: "off"
  augment: {crop: 1, flip: true}
model: {use: "./own.py:model"}
loss: {use: "./own.py:killed"}
optimizer: {use: sgd, lr: 0.01, momentum: 0.9}
train: {epochs: 2, precision: fp64}
checkpoint: {every_steps: 3}
wandb: {mode: disabled}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for split, count in (("train", N), ("val", VAL)):
        rows = ["path,label"]
        for row in range(count):
            name = f"{split}{row}.png"
            Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(tmp_path / "images" / name)
            rows.append(f"{name},{'ab'[row % 2]}")
        (tmp_path / f"{split}.csv").write_text("\n".join(rows))
        for row in BAD[split]:
            (tmp_path / "images" / f"{split}{row}.png").write_bytes(b"cut off")
    return write_killable_project(tmp_path, CODE, CONFIG)


def skipped(document: dict[str, Any]) -> set[tuple[str, int]]:
    lines = Path(document["run_dir"], "bad_samples.jsonl").read_text().splitlines()
    found = [(line["split"], line["row"]) for line in map(json.loads, lines)]
    assert len(found) == len(set(found))
    return set(found)


@pytest.mark.exhaustive
def test_four_processes_train_on_the_same_as_one_and_as_one_that_was_killed(
    launch: Launch, project: Path
) -> None:
    four = train_own(launch, project, 4, "four")
    assert four.status == 0, four.err
    four = four.document
    assert train_own(launch, project, 1, "killed", KILL_AT="13").status != 0
    resumed = launch("resume", "killed", "--cpu", "1", "--json", cwd=project).document
    check_equal_training(four, resumed, 1e-12)
    assert (four["steps"], four["samples"]) == (resumed["steps"], resumed["samples"]) == (16, 2 * N)
    assert (four["metrics"]["val/count"], four["metrics"]["val/left_out"]) == (VAL - 2, 2)
    for document in (four, resumed):
        assert skipped(document) == {(split, row) for split, rows in BAD.items() for row in rows}
    notes = [
        event["message"]
        for event in map(json.loads, Path(four["run_dir"], "metrics.jsonl").read_text().splitlines())
        if event["event"] == "note"
    ]
    assert any("bad_samples.jsonl in the run folder lists them" in note for note in notes)


@pytest.mark.exhaustive
def test_neither_cache_nor_workers_nor_where_it_was_killed_matter(launch: Launch, project: Path) -> None:
    whole = train_own(launch, project, 3, "whole").document
    for name, more in {
        "cached": ["data.cache=on"],
        "inside": ["data.workers=0"],
        "many": ["data.workers=3"],
    }.items():
        other = train_own(launch, project, 3, name, *more).document
        assert [other[key] for key in DIGESTS] == [whole[key] for key in DIGESTS]
    for kill_at in ("3", "9", "18"):
        assert train_own(launch, project, 3, f"killed{kill_at}", KILL_AT=kill_at).status != 0
        resumed = launch("resume", f"killed{kill_at}", "--cpu", "3", "--json", cwd=project).document
        assert [resumed[key] for key in DIGESTS] == [whole[key] for key in DIGESTS]
    check_equal_training(train_own(launch, project, 1, "one").document, whole, 1e-12)


@pytest.mark.exhaustive
def test_a_run_that_stopped_at_a_bad_file_goes_on_without_it(launch: Launch, project: Path) -> None:
    stopped = train_own(launch, project, 2, "stopped", "data.on_bad=stop")
    assert stopped.status == 6
    assert ".png is not a readable image" in stopped.err
    few = train_own(launch, project, 2, "few", "data.max_bad=2")
    assert few.status == 6
    assert "3 of 60 samples of train are bad, and data.max_bad allows 2" in few.err

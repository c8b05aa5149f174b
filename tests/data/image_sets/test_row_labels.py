"""Labels that are not one class: several at once, columns of numbers, quantities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lockstep.data.common.errors import DamagedError, UsageError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import open_split
from lockstep.data.sources.splits import ArraySplit, MapSplit
from tests.helpers.dataset_files import write_images

NAMES = ["a.png", "b.png", "c.png", "d.png"]
TABLE = """path,label,age,hat,smile
a.png,cat|indoor,31.5,1,0
b.png,,-2e1,0,0
c.png,indoor,0,1,1
d.png, dog | cat ,7,0,1
"""
KINDS = {
    "several names": (
        {"label_separator": "|"},
        [[1, 0, 1], [0, 0, 0], [0, 0, 1], [1, 1, 0]],  # cat, dog, indoor
    ),
    "given names": (
        {"label_separator": "|", "classes": ["indoor", "dog", "cat", "bird"]},
        [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]],
    ),
    "columns of 0 and 1": ({"label_column": ["smile", "hat"]}, [[0, 1], [0, 0], [1, 1], [1, 0]]),
    "a quantity": ({"label_column": "age", "label_kind": "numbers"}, [[31.5], [-20], [0], [7]]),
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_images(tmp_path / "base" / "images", NAMES)
    (tmp_path / "base" / "train.csv").write_text(TABLE)
    return tmp_path / "base"


def config(*, on_bad: str = "stop", cache: str = "off", **args) -> DataConfig:
    given = {"root": "images", "train_csv": "train.csv"} | args
    return DataConfig(use="csv_images", args=given, on_bad=on_bad, cache=cache, max_bad=2)


@pytest.mark.parametrize("kind", KINDS)
def test_targets_are_vectors(base: Path, kind: str) -> None:
    args, wanted = KINDS[kind]
    facts = prepare(config(**args), base)
    assert DatasetInfo.from_json(facts.to_json()) == facts
    assert (facts.classes, facts.class_names, facts.target_shape) == (None, None, (len(wanted[0]),))
    assert facts.train.class_counts is None
    read = open_split(facts, "train", config(**args), base)
    cached = open_split(
        prepare(config(cache="on", **args), base, build_cache=True), "train", config(**args), base
    )
    assert isinstance(read, MapSplit)
    assert isinstance(cached, ArraySplit)
    targets = torch.stack([read.dataset[row][1] for row in range(4)])
    assert targets.dtype == torch.float32
    assert torch.equal(targets, torch.tensor(wanted, dtype=torch.float32))
    assert torch.equal(cached.y, targets)
    assert torch.equal(cached.x[2], read.dataset[2][0])


def test_validation_uses_the_names_of_training(base: Path) -> None:
    (base / "val.csv").write_text("path,label\na.png,indoor|dog\n")
    settings = config(label_separator="|", val_csv="val.csv")
    split = open_split(prepare(settings, base), "val", settings, base)
    assert isinstance(split, MapSplit)
    assert split.dataset[0][1].tolist() == [0, 1, 1]
    (base / "val.csv").write_text("path,label\na.png,indoor|bird\n")
    with pytest.raises(DamagedError, match=r"val\.csv:2: 'bird' is none of the classes cat, dog, indoor"):
        prepare(settings, base)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("old", "'old' is not a number"),
        ("", "a number is missing"),
        ("nan", "'nan' is not a number"),
        ("1e99", "'1e99' is not a number"),
        ("1_0", "'1_0' is not a number"),
    ],
)
def test_what_is_no_number_is_named_or_skipped(base: Path, text: str, why: str) -> None:
    (base / "train.csv").write_text(TABLE.replace("31.5", text))
    args = {"label_column": "age", "label_kind": "numbers"}
    with pytest.raises(DamagedError, match=rf"train\.csv:2: {why}"):
        prepare(config(**args), base)
    facts = prepare(config(on_bad="skip", **args), base)
    assert list(open_split(facts, "train", config(on_bad="skip", **args), base).bad) == [0]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"label_column": ["hat", "beard"]}, "no column 'beard'"),
        ({"label_column": ["hat", "hat"]}, "not a list of distinct names"),
        ({"label_kind": "words"}, "neither classes nor numbers"),
        ({"label_kind": "numbers", "classes": ["a", "b"]}, "neither classes nor a label_separator"),
        ({"label_separator": ", "}, "is not one character"),
    ],
)
def test_arguments_that_are_wrong(base: Path, args: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        prepare(config(**args), base)


def test_weights_come_from_another_column(base: Path) -> None:
    settings = DataConfig(
        use="csv_images",
        args={"root": "images", "train_csv": "train.csv", "label_column": ["hat", "smile"]},
        weights="hat",
    )
    sampling = prepare(settings, base).sampling
    assert sampling is not None
    assert np.diff(np.load(sampling.files["cumulative"]), prepend=0).astype(bool).tolist() == [
        True,
        False,
        True,
        False,
    ]

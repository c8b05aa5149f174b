from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.data.common.errors import TrainingError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.data_look import DataLook
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.prepare import prepare
from lockstep.data.survey import sample_look
from lockstep.data.survey.suspicions import value_notes
from tests.helpers.dataset_files import write_images

CODE = """
import torch

class Mapped(torch.utils.data.Dataset):
    def __init__(self, rows, bad=()):
        self.rows, self.bad = rows, bad
    def __len__(self):
        return self.rows
    def __getitem__(self, row):
        if row in self.bad:
            raise SystemExit(3)
        return torch.full((row % 3 + 1, 2), float(row)), row % 2

def mapped(rows=20, bad=()):
    return {"train": Mapped(rows, bad), "val": Mapped(4)}

def padded(samples):
    return torch.nn.utils.rnn.pad_sequence([x for x, _ in samples]), torch.tensor([y for _, y in samples])

def arrays(labels=(0, 0, 1, 3), val=(0, 0)):
    x = torch.arange(len(labels) * 2.0).reshape(-1, 2)
    return {"train": (x, torch.tensor(labels)), "val": (x[: len(val)], torch.tensor(val))}

def odd():
    x = torch.zeros(6, 2)
    x[1, 1] = float("nan")
    return {"train": (x, torch.zeros(6)), "val": (x.double(), torch.zeros(6))}
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sample_look, "SECONDS", math.inf)
    (tmp_path / "exp.py").write_text(CODE)
    return tmp_path


def introduced(base: Path, use: str, val_size: int | None = None, **args) -> tuple[DatasetInfo, DataLook]:
    collate = "./exp.py:padded" if use == "./exp.py:mapped" else None
    facts = prepare(DataConfig(use=use, args=args, val_size=val_size, collate=collate), base)
    assert DatasetInfo.from_json(json.loads(json.dumps(facts.to_json()))) == facts
    assert facts.look is not None
    return facts, facts.look


def parts(look: DataLook) -> dict[str, tuple[str, float | None, float | None]]:
    return {part.name: (" or ".join(map(str, part.kinds)), part.low, part.high) for part in look.train.parts}


def test_samples_of_a_map_style_set_are_described_by_all_that_were_read(base: Path) -> None:
    _, look = introduced(base, "./exp.py:mapped")
    assert parts(look) == {"input": ("float32 [1 to 3, 2]", 0, 19), "target": ("int", 0, 1)}
    assert (look.train.samples, look.train.length, look.train.unreadable) == (20, 20, 0)
    assert look.val is not None
    assert (look.val.samples, look.val.length) == (4, 4)


def test_files_that_cannot_be_read_are_counted() -> None:
    def read(row: int) -> Any:
        if row in (5, 6):
            raise OSError("truncated")
        return np.zeros(2), row % 2

    look = sample_look.look_at_split(20, read)
    assert (look.samples, look.unreadable) == (18, 2)
    assert [note for note in value_notes(look, None) if "cannot" in note] == [
        "2 of 20 training samples that were tried cannot be read"
    ]


def test_a_users_samples_that_cannot_be_read_are_refused(base: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"sample [56] of the data set raised SystemExit: 3\nat .*exp\.py:11"
    ):
        introduced(base, "./exp.py:mapped", bad=[5, 6])


def test_of_a_large_set_a_fixed_sample_is_looked_at(base: Path) -> None:
    _, look = introduced(base, "./exp.py:mapped", rows=10**6)
    assert (look.train.samples, look.train.length) == (100, 10**6)
    rows = sample_look.chosen_rows(10**6)
    assert rows == sample_look.chosen_rows(10**6)
    assert rows[:2] == [0, 10**6 - 1]
    assert len(set(rows)) == 100
    assert sample_look.chosen_rows(1) == [0]
    assert sorted(sample_look.chosen_rows(100)) == list(range(100))


def test_a_slow_set_is_looked_at_for_a_bounded_time(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_look, "SECONDS", 0.0)
    _, look = introduced(base, "./exp.py:mapped")
    assert look.train.samples == sample_look.LEAST


def test_tensors_and_classes_with_gaps_or_single_samples(base: Path) -> None:
    facts, look = introduced(base, "./exp.py:arrays")
    assert parts(look) == {"input": ("float32 [2]", 0, 7), "target": ("int64", 0, 3)}
    assert facts.train.class_counts == (2, 1, 0, 1)
    assert look.notes == (
        "1 class has no training sample: 2",
        "2 classes have one training sample only: 1, 3",
        "2 classes have no validation sample: 1, 3",
    )
    assert introduced(base, "./exp.py:arrays", labels=[0, 0, 1, 1], val=[0, 1])[1].notes == ()
    assert (
        "all training samples are of one class" in introduced(base, "./exp.py:arrays", labels=[0, 0])[1].notes
    )


def test_values_that_nothing_can_be_learned_from(base: Path) -> None:
    _, look = introduced(base, "./exp.py:odd")
    assert look.notes == (
        "input holds NaN or infinite numbers in 1 of 6 training samples",
        "input is 0 throughout, in all 6 training samples that were looked at",
        "input holds NaN or infinite numbers in 1 of 6 validation samples",
        "input is 0 throughout, in all 6 validation samples that were looked at",
        "input is float64 in validation and float32 in training",
    )


def test_built_in_sets_introduce_themselves(base: Path) -> None:
    facts, look = introduced(base, "tensors", rows=7)
    assert parts(look)["target"] == ("float32 [1]", *parts(look)["target"][1:])
    assert (look.train.samples, look.val, facts.train.class_counts) == (7, None, None)
    facts, look = introduced(base, "digits", val_size=50, train=200, val=10)
    assert parts(look) == {"input": ("uint8 [1, 28, 28]", 0, 255), "target": ("int64", 0, 9)}
    assert look.val is not None
    assert (look.train.length, look.val.length, look.val.samples) == (150, 50, 50)


def test_images_of_files(base: Path) -> None:
    names = [f"{number}.png" for number in range(6)]
    write_images(base, names)
    (base / "t.csv").write_text("path,label\n" + "".join(f"{name},{name in names[:3]}\n" for name in names))
    _, look = introduced(base, "csv_images", val_size=2, train_csv="t.csv", size=[10, 14])
    assert parts(look)["input"][0] == "uint8 [1, 10, 14]"
    assert look.train.samples == 4
    assert all(np.isfinite(end) for end in parts(look)["input"][1:] if end is not None)


def test_inputs_that_are_in_both_splits_are_counted(base: Path) -> None:
    code = "def shared(n=8, dtype='float32'):\n    x = torch.arange(40.0).reshape(10, 4).to(getattr(torch, dtype))\n"
    code += "    return {'train': (x, torch.zeros(10)), 'val': (x[8 - n :], torch.zeros(2 + n))}\n"
    (base / "exp.py").write_text(CODE + code)
    note = "10 of 10 validation inputs are among those of training"
    assert note in introduced(base, "./exp.py:shared")[1].notes
    assert (
        "8 of 8 validation inputs are among those of training"
        in introduced(base, "./exp.py:shared", n=6)[1].notes
    )
    assert not any("among" in note for note in introduced(base, "./exp.py:shared", dtype="bfloat16")[1].notes)
    assert not any("among" in note for note in introduced(base, "digits", train=99, val=9)[1].notes)


def test_labels_that_were_seen_are_counted(base: Path) -> None:
    _, look = introduced(base, "./exp.py:mapped")
    assert look.train.parts[1].labels == ((0, 10), (1, 10))
    assert introduced(base, "./exp.py:odd")[1].train.parts[1].labels == ()

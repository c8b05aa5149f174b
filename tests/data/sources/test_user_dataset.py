from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from lockstep.data.common.errors import DamagedError, TrainingError, UsageError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.prepare import prepare
from lockstep.data.sources import user_dataset
from lockstep.data.sources.registry import open_split
from lockstep.data.sources.splits import ArraySplit, MapSplit

SOURCE = """
import torch
from torch.utils.data import Dataset, TensorDataset

class Squares(Dataset):
    def __init__(self, n, noise=False, shift=0):
        self.n, self.noise, self.shift = n, noise, shift
    def __len__(self):
        return self.n
    def __getitem__(self, i):
        x = torch.full((1, 4, 4), float(i) + self.shift * (0 < i < self.n - 1))
        return (x + torch.rand(1) if self.noise else x), i % 3

def pair(n):
    return torch.arange(n * 2.0).reshape(n, 2), torch.arange(n) % 3

def tensors(n=10):
    return {"train": pair(n), "val": pair(4)}

def dataset(n=10):
    return {"train": TensorDataset(*pair(n)), "val": None}

def squares(n=10, noise=False, shift=0):
    return {"train": Squares(n, noise, shift), "val": Squares(3)}

def only_train(n=10):
    return {"train": Squares(n)}

def samples():
    return {"train": [(torch.zeros(2), 1)] * 5}

def dicts():
    return {"train": [{"x": torch.zeros(2), "y": "text"}] * 5}

def regression(n=8):
    return {"train": (torch.rand(n, 5, generator=torch.Generator().manual_seed(0)), torch.zeros(n, 1))}

calls = 0

def grows():
    global calls
    calls += 1
    return {"train": Squares(10 + calls)}

def count():
    global calls
    calls += 1
    return tensors()

def broken(kind):
    import numpy as np
    x, y = pair(6)
    return {
        "list": [1, 2],
        "no_train": {"val": (x, y)},
        "typo": {"train": (x, y), "valid": (x, y)},
        "lengths": {"train": (x, y[:5])},
        "empty": {"train": (x[:0], y[:0])},
        "three": {"train": (x, y, y)},
        "scalar": {"train": (x, torch.tensor(1))},
        "arrays": {"train": (np.zeros(3), np.zeros(3))},
        "iterable": {"train": (sample for sample in [1, 2])},
        "number": {"train": 7},
    }[kind]

class Bad(Squares):
    def __getitem__(self, i):
        raise KeyError("sample")

def bad():
    return {"train": Bad(3)}

def raises(**args):
    return 1 / 0
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE)
    return tmp_path


def config(name: str, val_size: int | None = None, **args) -> DataConfig:
    return DataConfig(use=f"./mine.py:{name}", args=args, val_size=val_size)


@pytest.mark.parametrize("name", ["tensors", "dataset"])
def test_tensors(base: Path, name: str) -> None:
    facts = prepare(config(name), base)
    assert DatasetInfo.from_json(json.loads(json.dumps(facts.to_json()))) == facts
    assert (facts.kind, facts.train.length, facts.classes) == ("user", 10, 3)
    assert (facts.input_shape, facts.input_dtype, facts.target_shape) == ((2,), "float32", ())
    assert facts.train.class_counts == (4, 3, 3)
    assert (facts.val is None) == (name == "dataset")
    split = open_split(facts, "train", config(name), base)
    assert isinstance(split, ArraySplit)
    assert len(split) == 10
    assert split.x.shape == (10, 2)


def test_a_map_style_data_set(base: Path) -> None:
    facts = prepare(config("squares", n=7), base)
    assert (facts.train.length, facts.val.length, facts.classes) == (7, 3, None)
    assert (facts.input_shape, facts.input_dtype, facts.target_shape) == ((1, 4, 4), "float32", ())
    split = open_split(facts, "val", config("squares", n=7), base)
    assert isinstance(split, MapSplit)
    assert len(split) == 3


def test_lists_of_samples_and_samples_of_any_form(base: Path) -> None:
    assert prepare(config("samples"), base).input_shape == (2,)
    facts = prepare(config("dicts"), base)
    assert (facts.train.length, facts.input_shape, facts.target_shape) == (5, None, None)


def test_targets_that_are_no_classes(base: Path) -> None:
    facts = prepare(config("regression"), base)
    assert (facts.classes, facts.target_shape, facts.train.class_counts) == (None, (1,), None)


def test_one_process_calls_it_once(base: Path) -> None:
    facts = prepare(config("count"), base)
    for which in ("train", "val"):
        open_split(facts, which, config("count"), base)
    assert user_dataset.load_callable("./mine.py:count", base).__globals__["calls"] == 1


@pytest.mark.parametrize("name", ["dataset", "only_train"])
def test_val_size(base: Path, name: str) -> None:
    settings = config(name, val_size=3)
    facts = prepare(settings, base)
    train, val = (open_split(facts, which, settings, base) for which in ("train", "val"))
    assert (len(train), len(val)) == (7, 3)
    assert sorted([*train.subset, *val.subset]) == list(range(10))
    if name == "dataset":
        assert sum(facts.val.class_counts) == 3


def test_val_size_and_own_validation_data_contradict(base: Path) -> None:
    with pytest.raises(UsageError) as caught:
        prepare(config("squares", val_size=3), base)
    assert "has validation data of its own" in caught.value.message
    assert prepare(config("squares", val_size=0), base).val is None


def test_another_length_in_a_rank(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = prepare(config("grows"), base)
    monkeypatch.setattr(user_dataset, "_called", {})
    with pytest.raises(DamagedError) as caught:
        open_split(facts, "train", config("grows"), base)
    assert "returned 12 samples where it had returned 11 before" in caught.value.message
    assert caught.value.exit_status == 6


def fingerprint(base: Path, name: str, **args) -> str:
    user_dataset._called.clear()
    return prepare(config(name, **args), base).fingerprint


def test_the_fingerprint_follows_length_and_content(base: Path) -> None:
    assert fingerprint(base, "tensors") == fingerprint(base, "tensors")
    assert fingerprint(base, "tensors") != fingerprint(base, "tensors", n=11)
    assert fingerprint(base, "squares") == fingerprint(base, "squares")
    assert fingerprint(base, "squares", n=10) != fingerprint(
        base, "squares", n=10, shift=1
    )  # not in first and last


def test_augmentation_does_not_change_it_and_no_generator_moves(base: Path) -> None:
    before = torch.get_rng_state(), random.getstate()
    first = fingerprint(base, "squares", noise=True)
    assert (torch.get_rng_state() == before[0]).all()
    assert random.getstate() == before[1]
    assert fingerprint(base, "squares", noise=True) == first


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("list", "returned list, not a dict"),
        ("no_train", 'returned nothing for "train"'),
        ("typo", "returned the unknown key 'valid'"),
        ("lengths", "returned 6 inputs and 5 targets for 'train'"),
        ("empty", "returned no samples for 'train'"),
        ("three", "returned (Tensor, Tensor, Tensor) for 'train', not a pair of tensors"),
        ("scalar", "not a pair of tensors with a row for each sample"),
        ("arrays", "returned (ndarray, ndarray) for 'train', not a pair of tensors"),
        ("iterable", "returned generator for 'train', which has no __len__ or no __getitem__"),
        ("number", "returned int for 'train'"),
    ],
)
def test_a_broken_contract(base: Path, kind: str, message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        prepare(config("broken", kind=kind), base)
    assert caught.value.message.startswith("./mine.py:broken ")
    assert message in caught.value.message
    assert '{"train": ..., "val": ...}' in caught.value.hint
    assert caught.value.exit_status == 1


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("raises", {}, "ZeroDivisionError: division by zero"),
        ("bad", {}, "KeyError: 'sample'"),
        ("tensors", {"m": 3}, "unexpected keyword argument 'm'"),
    ],
)
def test_what_the_user_s_code_raises(base: Path, name: str, args: dict, message: str) -> None:
    with pytest.raises(TrainingError) as caught:
        prepare(config(name, **args), base)
    assert message in caught.value.message
    if name != "tensors":
        line = 1 + SOURCE.split("1 / 0" if name == "raises" else "raise KeyError", maxsplit=1)[0].count("\n")
        assert f"{base / 'mine.py'}:{line}" in caught.value.message
    assert caught.value.__cause__ is not None


def test_a_file_that_is_not_there(base: Path) -> None:
    with pytest.raises(UsageError, match=r"did you mean 'mine\.py'"):
        prepare(DataConfig(use="./mime.py:data"), base)

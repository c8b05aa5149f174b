from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from lockstep.data.common.errors import DamagedError, LockstepError, TrainingError, UsageError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.loading.feed import Work
from lockstep.data.loading.feed_choice import open_feed
from lockstep.data.loading.normalise import Normalisation
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import open_split
from lockstep.data.sources import user_dataset
from lockstep.data.sources.splits import ArraySplit, MapSplit
from lockstep.data.survey import sample_look

PLAIN = Normalisation(torch.float32, None, None)
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

def unpack(samples):
    return torch.stack([sample["x"] for sample in samples]), [sample["y"] for sample in samples]

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

class Counted:
    def __init__(self, length): self.length = length
    def __len__(self): return self.length
    def __getitem__(self, i): return torch.zeros(2), 0

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
        "texts": {"train": (np.array(["a", "b"]), np.zeros(2))},
        "objects": {"train": (np.array([[1], [2, 3]], dtype=object), np.zeros(2))},
        "masked": {"train": (np.ma.masked_less(np.arange(3.0), 1), np.zeros(3))},
        "lists": {"train": ([[1.0], [2.0], [3.0]], [0, 1, 0])},
        "stream": {"train": Stream()},
        "iterable": {"train": (sample for sample in [1, 2])},
        "number": {"train": 7},
        "fraction": {"train": Counted(6.0)},
        "negative": {"train": Counted(-1)},
        "loader": {"train": torch.utils.data.DataLoader([(x[row], y[row]) for row in range(len(x))])},
        "class": {"train": torch.utils.data.TensorDataset},
    }[kind]

class Stream(torch.utils.data.IterableDataset):
    def __len__(self):
        return 5
    def __iter__(self):
        return iter([(torch.zeros(2), 1)] * 5)

def arrays(kind="plain", labels="int32"):
    import numpy as np
    x, y = np.arange(20.0).reshape(10, 2), (np.arange(10) % 3).astype(labels)
    x = {
        "plain": x,
        "turned": x[::-1][::-1].T.copy().T,
        "backward": x[::-1].copy()[::-1],
        "other bytes": x.astype(">f8"),
        "read only": np.frombuffer(x.tobytes()).reshape(10, 2),
    }[kind]
    return {"train": (x, y), "val": [torch.from_numpy(np.array(x, dtype=float)), y]}

class Bad(Squares):
    def __getitem__(self, i):
        raise KeyError("sample")

def bad():
    return {"train": Bad(3)}

class Odd(torch.utils.data.Dataset):
    def __init__(self, kind):
        self.kind = kind
    def __len__(self):
        return 60
    def __getitem__(self, row):
        if self.kind == "ragged":
            return torch.ones(1 + row % 3), row % 2
        if row == 33 and self.kind == "raises":
            raise LookupError("no such picture")
        return None if row == 33 and self.kind == "none" else (torch.ones(2), row % 2)

def odd(kind, which="train"):
    return {"train": Squares(10), which: torch.utils.data.Subset(Odd(kind), range(60))}

def pad(samples):
    xs, ys = zip(*samples)
    return torch.nn.utils.rnn.pad_sequence(list(xs), batch_first=True), torch.tensor(ys)

def three(samples):
    return samples, 1, 2

def breaks(samples):
    return {}["x"]

class Files(Squares):
    def __getitem__(self, row):
        if row == 3:
            open(f"{row}.txt").close()
        return torch.zeros(2), 1

def files():
    return {"train": Files(6), "val": Squares(2)}

def table(csv):
    open(csv).close()
    return {"train": Squares(5)}

def raises(**args):
    return 1 / 0
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sample_look, "SECONDS", math.inf)  # a busy machine looks at as many
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


@pytest.mark.parametrize("kind", ["plain", "turned", "backward", "other bytes", "read only"])
def test_arrays_are_tensors(base: Path, kind: str) -> None:
    facts = prepare(config("arrays", kind=kind), base)
    assert (facts.train.length, facts.classes, facts.input_dtype) == (10, 3, "float64")
    for which in ("train", "val"):
        split = open_split(facts, which, config("arrays", kind=kind), base)
        assert isinstance(split, ArraySplit)
        assert torch.equal(split.x, torch.arange(20, dtype=torch.float64).view(10, 2))
        assert torch.equal(split.y, torch.arange(10, dtype=torch.int32) % 3)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "uint16", "int32", "uint32", "uint64"])
def test_labels_of_any_whole_type_are_counted(base: Path, dtype: str) -> None:
    settings = config("arrays", kind="plain", labels=dtype)
    facts = prepare(settings, base)
    assert facts.train.class_counts == ((4, 6) if dtype == "bool" else (4, 3, 3))
    split = open_split(facts, "train", settings, base)
    feed = open_feed(split, PLAIN, torch.device("cpu"), workers=0, classes=None, seed=0)
    ((_, y),) = next(feed.fetch(iter([Work(np.array([1, 5, 6]), [3])]))).micro
    assert y.dtype == (torch.bool if dtype == "bool" else torch.int64)
    assert y.tolist() == [1, dtype == "bool" or 2, 0]


def test_a_sample_whose_file_is_relative_to_the_shells_folder(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "elsewhere").mkdir()
    (base / "3.txt").write_text("here")
    monkeypatch.chdir(base / "elsewhere")
    with pytest.raises(TrainingError, match=r"sample \d of the data set raised FileNotFoundError") as caught:
        prepare(config("files"), base)
    assert "is relative to" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none", r"data sample 33 is None \(.*mine\.py:{line}\)"),
        ("ragged", r"input of data sample \d+ has shape \[\d\], sample 0 has \[1\] \(.*mine\.py:{line}\)"),
        ("raises", r"sample 33 of the data set raised LookupError: no such picture\nat .*mine\.py:\d+"),
        (
            "dicts",
            r"data sample \d is a dict with the keys x, y, not a pair \(input, target\) \(.*mine\.py:\d+\)",
        ),
    ],
)
@pytest.mark.parametrize("val_size", [None, 3])
def test_what_a_look_shows_is_refused_before_the_ranks_start(
    base: Path, name: str, words: str, val_size: int | None
) -> None:
    line = 1 + SOURCE.split("    def __getitem__(self, row):", maxsplit=1)[0].count("\n")
    settings = config("dicts", val_size) if name == "dicts" else config("odd", val_size, kind=name)
    with pytest.raises(TrainingError, match=words.replace("{line}", str(line))):
        prepare(settings, base)


def test_a_sample_of_the_validation_set_is_called_so(base: Path) -> None:
    with pytest.raises(TrainingError, match=r"val data sample 33 is None"):
        prepare(config("odd", kind="none", which="val"), base)


def test_a_collate_function_makes_the_batch(base: Path) -> None:
    settings = config("odd", kind="ragged").model_copy(update={"collate": "./mine.py:pad"})
    facts = prepare(settings, base)
    split = open_split(facts, "train", settings, base)
    feed = open_feed(split, PLAIN, torch.device("cpu"), workers=0, classes=None, seed=0)
    (batch,) = next(feed.fetch(iter([Work(np.array([0, 7, 2]), [3])]))).micro
    assert batch[0].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert batch[1].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("collate", "use", "words"),
    [
        (
            "./mine.py:three",
            "odd",
            r"data.collate, given data samples 0, 0, returned a tuple of 3, not a pair",
        ),
        (
            "./mine.py:breaks",
            "odd",
            r"data.collate, given data samples 0, 0, raised \(.*mine\.py:\d+\): KeyError",
        ),
        ("./mine.py:pads", "odd", "has no 'pads'"),
        ("./mine.py:pad", "tensors", "whose rows are taken as they are"),
        ("./mine.py:pad", "digits", "digits has a collation of its own"),
    ],
)
def test_a_collate_function_that_is_none(base: Path, collate: str, use: str, words: str) -> None:
    source = use if use == "digits" else f"./mine.py:{use}"
    args = {"kind": "none"} if use == "odd" else {}
    with pytest.raises(LockstepError, match=words):
        prepare(DataConfig(use=source, args=args, collate=collate), base)


def test_a_path_that_is_relative_to_the_shells_folder(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base / "elsewhere").mkdir()
    monkeypatch.chdir(base / "elsewhere")
    with pytest.raises(TrainingError, match=r"FileNotFoundError.*houses\.csv") as caught:
        prepare(config("table", csv="houses.csv"), base)
    assert caught.value.hint == f"houses.csv is relative to {Path.cwd()}, where the command was started"
    (base / "houses.csv").write_text("1,2\n")
    with pytest.raises(TrainingError) as caught:
        prepare(config("table", csv="houses.csv"), base)
    assert f"{base / 'houses.csv'} is there" in caught.value.hint
    assert prepare(config("table", csv=str(base / "houses.csv")), base).train.length == 5
    with pytest.raises(TrainingError) as caught:
        prepare(config("table", csv="/nowhere/houses.csv"), base)
    assert caught.value.hint == "correct the code at that line"


def test_a_map_style_data_set(base: Path) -> None:
    facts = prepare(config("squares", n=7), base)
    assert (facts.train.length, facts.val.length, facts.classes) == (7, 3, None)
    assert (facts.input_shape, facts.input_dtype, facts.target_shape) == ((1, 4, 4), "float32", ())
    split = open_split(facts, "val", config("squares", n=7), base)
    assert isinstance(split, MapSplit)
    assert len(split) == 3


def test_lists_of_samples_and_samples_of_any_form(base: Path) -> None:
    assert prepare(config("samples"), base).input_shape == (2,)
    facts = prepare(config("dicts").model_copy(update={"collate": "./mine.py:unpack"}), base)
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
        ("texts", "returned an array of <U1 for 'train', and torch has no such type"),
        ("objects", "returned an array of object for 'train'"),
        ("masked", "returned an array that is masked for 'train'"),
        ("lists", "returned (list, list) for 'train', not a pair of tensors"),
        (
            "stream",
            "returned an IterableDataset for 'train': its samples have no numbers",
        ),
        (
            "iterable",
            "returned generator for 'train', which has no __len__ or no __getitem__: its samples have no numbers",
        ),
        ("number", "returned int for 'train'"),
        ("fraction", "returned Counted for 'train', whose __len__ is 6.0"),
        ("negative", "returned Counted for 'train', whose __len__ is -1"),
        (
            "loader",
            "returned DataLoader for 'train', which makes batches in an order of its own: return its data set",
        ),
        ("class", "returned type for 'train', which is a class: make a data set of it by calling it"),
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

"""What a sample may be: batches are those of torch's default collation, and whatever does not fit is named."""

from __future__ import annotations

import random
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Subset, default_collate

from lockstep.data.common.errors import LockstepError, TrainingError
from lockstep.data.loading.feed import Work
from lockstep.data.loading.feed_choice import open_feed
from lockstep.data.loading.normalise import Normalisation
from lockstep.data.samples.collation import collate
from lockstep.data.samples.sample_error import source_of
from lockstep.data.samples.sample_source import SampleSource
from lockstep.data.sources.splits import MapSplit

CPU = torch.device("cpu")
PLAIN = Normalisation(torch.float64, None, None, scale_uint8=False)
SOURCE = SampleSource("data sample", "exp.py:12")
Pair = namedtuple("Pair", ("image", "label"))  # noqa: PYI024 - as users write it


@dataclass
class Point:
    x: float


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict | UserDict):
        return (
            type(one) is type(other)
            and one.keys() == other.keys()
            and all(_equal(one[k], other[k]) for k in one)
        )
    if isinstance(one, list) and one and isinstance(one[0], str | bytes):
        return list(one) == list(other)  # torch makes a tuple of some
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


FITS: dict[str, Callable[[int], Any]] = {
    "tensors and numbers": lambda row: (torch.full((2, 3), float(row)), row),
    "arrays": lambda row: (np.full((2, 3), row, np.float32), np.int64(row)),
    "floats": lambda row: [row / 3, [row, row + 1]],
    "bools": lambda row: (row % 2 == 0, np.bool_(row % 2)),
    "texts": lambda row: ("a" * row, {"file": f"{row}.png", "label": row}),
    "bytes": lambda row: (b"a" * row, row),
    "nested": lambda row: ({"a": (torch.ones(row % 1 + 1), {"b": [row, "x"]})}, (row, -row)),
    "named": lambda row: Pair(Pair(torch.ones(2) * row, row), row),
    "ordered": lambda row: (OrderedDict(x=torch.ones(1), y=row), row),
    "mapping": lambda row: (UserDict(x=torch.ones(1), y=row), row),
    "uint8": lambda row: (torch.full((3,), row, dtype=torch.uint8), np.uint8(row)),
    "uint16": lambda row: (np.full(3, row, np.uint16), np.uint16(row)),
    "complex": lambda row: (torch.full((2,), row + 1j), np.complex64(row)),
    "empty": lambda row: ({}, [torch.ones(0), row]),
}


@pytest.mark.parametrize("name", FITS)
def test_what_fits_is_collated_as_by_torch(name: str) -> None:
    samples = [FITS[name](row) for row in (3, 1, 4)]
    inputs, targets = collate(samples, [3, 1, 4], SOURCE)
    expected = default_collate(samples)
    assert _equal(inputs, expected[0])
    assert _equal(targets, list(expected[1]) if isinstance(expected[1], tuple) else expected[1])


MORE_THAN_TORCHS: dict[str, tuple[Any, torch.Tensor]] = {
    "mirrored": (np.arange(3.0)[::-1], torch.tensor([2.0, 1.0, 0.0]).double()),
    "other bytes": (np.arange(3, dtype=">i4"), torch.arange(3, dtype=torch.int32)),
    "read only": (np.frombuffer(b"abc", np.uint8), torch.tensor([97, 98, 99], dtype=torch.uint8)),
    "masked, but nothing is": (np.ma.array([1.0, 2.0]), torch.tensor([1.0, 2.0]).double()),
    "takes a gradient": (torch.ones(2, requires_grad=True) * 2, torch.tensor([2.0, 2.0])),
    "Python's and NumPy's": (np.float64(1.5), torch.tensor(1.5).double()),
}


@pytest.mark.parametrize("name", MORE_THAN_TORCHS)
def test_what_torch_refuses_or_could_not_send_fits_as_well(name: str) -> None:
    value, expected = MORE_THAN_TORCHS[name]
    samples: list[Any] = [(value, 1)] * 3
    if name == "Python's and NumPy's":
        samples[1] = (1.5, np.int64(1))
    inputs, targets = collate(samples, [0, 1, 2], SOURCE)
    assert _equal(inputs, torch.stack([expected] * 3))
    assert not inputs.requires_grad
    assert _equal(targets, torch.tensor([1, 1, 1]))


X = torch.ones(2)
MISFITS: dict[str, tuple[Any, str, str]] = {
    "none": (None, "data sample 33 is None (exp.py:12)", "return (input, target) from __getitem__"),
    "a dict": (
        {"x": X, "y": 1},
        "data sample 33 is a dict with the keys x, y, not a pair",
        "(input, target)",
    ),
    "three": ((X, 1, 2), "data sample 33 is a tuple of 3, not a pair (input, target) (exp.py:12)", ""),
    "a tensor": (torch.ones(2, 2), "data sample 33 is float32 of shape [2, 2], not a pair", ""),
    "a text": ("ab", "data sample 33 is the str 'ab', not a pair", ""),
    "no target": ((X, None), "target of data sample 33 is None", ""),
    "none within": (((X, {"a": None}), 1), "input[1]['a'] of data sample 33 is None", ""),
    "picture": (
        (Image.new("L", (3, 2)), 1),
        "input of data sample 33 is of type PIL.Image.Image",
        "pil_to_tensor",
    ),
    "dataclass": ((Point(1), 1), "input of data sample 33 is of type", "vars(sample)"),
    "path": ((Path("a.png"), 1), "PosixPath", "str(path)"),
    "a set": (({1, 2}, 1), "input of data sample 33 is of type set", ""),
    "a function": ((len, 1), "input of data sample 33 is of type builtin_function_or_method", ""),
    "decimal": ((X, Decimal(1)), "target of data sample 33 is of type decimal.Decimal", ""),
    "objects": ((np.array([None, 1]), 1), "input of data sample 33 is an array of object", ""),
    "texts": ((np.array(["a"]), 1), "input of data sample 33 is an array of <U1", ""),
    "date": ((np.array(["2020-01-01"], "datetime64[D]"), 1), "an array of datetime64[D]", ""),
    "long double": ((np.ones(2, np.longdouble), 1), "an array of float128", ""),
    "masked": ((np.ma.masked_less(np.arange(2.0), 1), 1), "an array that is masked", "filled"),
    "sparse": ((torch.eye(2).to_sparse(), 1), "a tensor that is sparse", "to_dense"),
    "nowhere": ((torch.ones(2, device="meta"), 1), "a tensor that is without data", ""),
    "huge": (
        (X, 2**70),
        "target of data sample 33 is the int 1180591620717411303424, of more than 64 bits",
        "",
    ),
}


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("name", MISFITS)
def test_what_fits_in_no_batch_is_named_with_its_place(name: str, alone: bool) -> None:  # noqa: FBT001
    sample, words, hint = MISFITS[name]
    first = ((X, {"a": X}), 1) if name == "none within" else (X, 1)
    samples, rows = ([sample], [33]) if alone else ([first, sample], [0, 33])
    with pytest.raises(TrainingError) as caught:
        collate(samples, rows, SOURCE)
    assert words in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.message.endswith("(exp.py:12)")


UNLIKE: dict[str, tuple[Any, Any, str]] = {
    "shape": (
        (torch.ones(2), 0),
        (torch.ones(4), 0),
        "input of data sample 7 has shape [4], sample 0 has [2]",
    ),
    "list": (([1, 2], 0), ([1], 0), "input of data sample 7 has 1 items, sample 0 has 2"),
    "type": (
        (X, 0),
        (X.double(), 0),
        "input of data sample 7 is float64 of shape [2], that of sample 0 is float32 of shape [2]",
    ),
    "number": ((X, 1), (X, 0.5), "target of data sample 7 is the float 0.5, that of sample 0 is the int 1"),
    "kind": ((X, 1), (X, "1"), "target of data sample 7 is the str '1', that of sample 0 is the int 1"),
    "keys": (
        ({"a": X}, 1),
        ({"a": X, "b": X}, 1),
        "is a dict with the keys a, b, that of sample 0 is a dict with the keys a: b is in one of them",
    ),
    "fewer keys": (({"a": X, "b": X}, 1), ({"a": X}, 1), "b is in one of them"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_what_does_not_fit_with_the_first_is_named(name: str) -> None:
    first, other, words = UNLIKE[name]
    with pytest.raises(TrainingError) as caught:
        collate([first, first, other], [0, 3, 7], SOURCE)
    assert words in caught.value.message
    assert caught.value.hint
    if name == "shape":
        assert caught.value.hint.startswith(
            "pad them to one shape, or give a collate function: data.collate="
        )


class Rows(torch.utils.data.Dataset[Any]):
    def __init__(self, make: Callable[[int], Any], length: int = 40) -> None:
        self.make, self.length = make, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, row: int) -> Any:
        return self.make(row)


LINE = Rows.__getitem__.__code__.co_firstlineno


def _read(make: Callable[[int], Any], workers: int, batches: list[list[int]], **split: Any) -> list[Any]:
    opened = MapSplit(Rows(make), None, **split)
    feed = open_feed(opened, PLAIN, CPU, workers=workers, classes=None, seed=0)
    work = [Work(np.array(rows), [len(rows)]) for rows in batches]
    return [batch.micro[0] for batch in feed.fetch(iter(work))]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["none", "picture", "dataclass", "objects", "takes a gradient"])
def test_in_a_worker_as_in_the_process_itself(name: str, workers: int) -> None:
    samples = {name: sample for name, (sample, *_) in MISFITS.items()} | {
        "takes a gradient": (torch.ones(2, requires_grad=True) * 2, 0)
    }

    def make(row: int) -> Any:
        return samples[name] if row == 33 else (X, 0)

    batches = [[0, 1], [2, 33], [4, 5]]
    if name == "takes a gradient":
        assert _read(make, workers, batches)[1][0].tolist() == [[1, 1], [2, 2]]
        return
    with pytest.raises(LockstepError) as caught:
        _read(make, workers, batches)
    assert MISFITS[name][1].replace("exp.py:12", f"{__file__}:{LINE}") in caught.value.message


@pytest.mark.parametrize("workers", [0, 1])
def test_what_ends_a_process_is_an_error_of_its_sample(workers: int) -> None:
    def make(row: int) -> Any:
        if row == 33:
            raise SystemExit("no licence")
        return X, 0

    with pytest.raises(TrainingError, match=r"sample 33 of the data set raised SystemExit: no licence\nat "):
        _read(make, workers, [[0, 1], [2, 33]])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda row: (X, 1 if row < 4 else 0.5),
            "target of data sample 4 is float64, that of sample 0 is int64",
        ),
        (
            lambda row: (X if row < 4 else X.byte(), 1),
            "input of data sample 4 is uint8, that of sample 0 is float32",
        ),
        (
            lambda row: ([X] * (1 + row // 4), 1),
            "input of data sample 4 is a list of 2, that of sample 0 is a list of 1",
        ),
        (lambda row: ({"a": X, "bc"[row // 4]: X}, 1), "input of data sample 4 is a dict with the keys a, c"),
        (lambda row: ({"a": (X, row if row < 4 else "4")}, 1), "input['a'][1] of data sample 4 is text"),
    ],
)
def test_a_batch_that_is_unlike_the_first_is_named(make: Callable[[int], Any], words: str) -> None:
    """The type of a batch must not depend on which samples happen to be together."""
    with pytest.raises(TrainingError) as caught:
        _read(make, 0, [[0, 1], [4, 5]])
    assert words in caught.value.message


def test_lengths_may_differ_between_batches() -> None:
    batches = _read(lambda row: (torch.ones(1 + row // 4), "x" * row), 0, [[0, 1], [4, 5]])
    assert [batch[0].shape for batch in batches] == [(2, 1), (2, 2)]


class Packed:
    """What some libraries make of a batch: an object that moves its tensors itself."""

    def __init__(self, values: list[Any]) -> None:
        self.values, self.device = values, None

    def to(self, device: torch.device) -> Packed:
        self.device = device
        return self


def test_a_collate_function_may_make_whatever_the_model_takes() -> None:
    def packed(samples: list[Any]) -> Any:
        xs, ys = zip(*samples, strict=True)
        sequence = torch.nn.utils.rnn.pack_sequence(xs, enforce_sorted=False)
        return {"all": Packed(xs), "sequence": sequence, "array": np.ones(2, np.float32)}, np.array(
            ys, np.int32
        )

    ((x, y),) = _read(lambda row: (torch.ones(1 + row % 3, 2), row), 0, [[0, 2, 1]], collate=packed)
    assert x["all"].device == CPU
    assert isinstance(x["sequence"], torch.nn.utils.rnn.PackedSequence)
    assert (x["array"].dtype, y.dtype, y.tolist()) == (torch.float64, torch.int64, [0, 2, 1])


@pytest.mark.parametrize("name", ["mirrored", "other bytes", "read only"])
def test_a_collate_function_may_return_the_arrays_that_a_sample_may_hold(name: str) -> None:
    array, expected = MORE_THAN_TORCHS[name]
    ((x, y),) = _read(lambda row: (X, row), 0, [[0, 1, 2]], collate=lambda _: ({"x": array}, array))
    assert torch.equal(x["x"], expected)
    assert torch.equal(y, expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "int64"])
def test_a_whole_number_for_a_target_is_an_int64_whatever_it_was(dtype: str) -> None:
    ((_, one),) = _read(lambda row: (X, np.dtype(dtype).type(row)), 0, [[3, 7]])
    ((_, many),) = _read(
        lambda row: (X, {"label": np.array(row, dtype), "mask": np.ones(2, dtype)}), 0, [[3, 7]]
    )
    assert (one.dtype, one.tolist()) == (torch.int64, [3, 7])
    assert (many["label"].dtype, many["mask"].dtype) == (torch.int64, getattr(torch, dtype))


def test_the_place_is_found_behind_what_wraps_a_data_set() -> None:
    rows = Rows(lambda row: row)
    here = f"{__file__}:{LINE}"
    for dataset in (rows, Subset(rows, [1]), Subset(ConcatDataset([rows, rows]), [1])):
        assert source_of(dataset).where == here
    assert source_of([1, 2], otherwise="exp.py:3").where == "exp.py:3"


def _random_tree(draw: random.Random, depth: int) -> Callable[[int], Any]:
    """Make what makes one part of a sample, of any structure."""
    if depth and draw.random() < 0.5:
        parts = [_random_tree(draw, depth - 1) for _ in range(draw.randint(1, 3))]
        if draw.random() < 0.5:
            return lambda row: {f"k{at}": part(row) for at, part in enumerate(parts)}
        return lambda row: [part(row) for part in parts]
    leaves: list[Callable[[int], Any]] = [
        lambda row: row,
        lambda row: row / 7,
        lambda row: f"text {row}",
        lambda row: torch.arange(4) * row,
        lambda row: np.full((2, 2), row, np.float32),
        np.int16,
        lambda row: row % 2 == 0,
    ]
    return draw.choice(leaves)


@pytest.mark.parametrize(
    "seed", [1, 2, *(pytest.param(s, marks=pytest.mark.exhaustive) for s in range(3, 200))]
)
def test_any_tree_is_collated_as_by_torch_and_one_odd_part_is_found(seed: int) -> None:
    draw = random.Random(seed)
    x, y = _random_tree(draw, 3), _random_tree(draw, 2)
    samples: list[Any] = [(x(row), y(row)) for row in range(5)]
    assert _equal(list(collate(samples, list(range(5)), SOURCE)), list(default_collate(samples)))
    odd = draw.randrange(1, 5)
    samples[odd] = (samples[odd][0], None)
    with pytest.raises(TrainingError, match=f"target of data sample {odd} is None"):
        collate(samples, list(range(5)), SOURCE)

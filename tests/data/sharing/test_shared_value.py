"""A value comes back as it was: types, strides and bits; what is of one process alone is refused with its reason."""

from __future__ import annotations

import mmap
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from lockstep.data.cache.array_cache import cache_root, find_entry
from lockstep.data.cache.cache_list import list_entries
from lockstep.data.sets.shared_data import remove_earlier
from lockstep.data.sharing.shared_value import NotShared, mapped_value, packed_value

N = 1000


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKSTEP_CACHE", str(tmp_path / "cache"))


class Rows(Dataset):
    def __init__(self, **held: Any) -> None:
        vars(self).update(held)

    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> Any:
        return row


def through_the_cache(value: Any) -> Any:
    return mapped_value(packed_value(value).store("me", "a test's"))


def whole(dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, (N, 3, 4)).astype(dtype)


ARRAYS: dict[str, Callable[[], Any]] = {
    "plain": whole,
    "of bytes": lambda: whole("uint8"),
    "other byte order": lambda: whole(">f8"),
    "in Fortran's order": lambda: np.asfortranarray(whole()),
    "turned": lambda: whole().transpose(0, 2, 1),
    "every other row": lambda: whole()[::2],
    "backward": lambda: whole()[::-1, :, 1:],
    "a column": lambda: whole()[:, 1, 2],
    "turned memory of a tensor": lambda: torch.from_numpy(whole()).numpy().T,
    "cannot be written to": lambda: np.frombuffer(whole().tobytes(), np.float32),
    "small": lambda: np.arange(3.0),
    "of no rows": lambda: whole()[:0],
    "times": lambda: np.arange(N).astype("datetime64[s]"),
    "texts": lambda: np.array(["a", "bc"] * N),
    "objects": lambda: np.array([["a"], 1] * N, object),
    "records": lambda: np.zeros(N, [("x", "f4"), ("y", "i8")]),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_comes_back_as_it_was(kind: str) -> None:
    value = ARRAYS[kind]()
    back = through_the_cache([value])[0]
    assert (back.dtype, back.shape, back.strides) == (value.dtype, value.shape, value.strides)
    assert back.flags.writeable == value.flags.writeable
    assert np.array_equal(back, value)


TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "plain": lambda: torch.rand(N, 3),
    "bfloat16": lambda: torch.rand(N, 3).bfloat16(),
    "turned": lambda: torch.rand(N, 3, 4).permute(0, 2, 1),
    "in the last order of channels": lambda: torch.rand(9, 3, 8, 8).to(memory_format=torch.channels_last),
    "one row, expanded": lambda: torch.rand(1, 400).expand(N, 400),
    "a part": lambda: torch.rand(N, 3)[7:],
    "complex": lambda: torch.rand(N, dtype=torch.complex64),
    "a number": lambda: torch.tensor(3.5),
    "empty": lambda: torch.empty(0, 3),
    "sparse": lambda: torch.eye(9).to_sparse(),
    "learned": lambda: torch.rand(N, requires_grad=True),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_comes_back_as_it_was(kind: str) -> None:
    value = TENSORS[kind]()
    back = through_the_cache((value,))[0]
    assert (back.dtype, back.shape, back.layout) == (value.dtype, value.shape, value.layout)
    assert back.requires_grad == value.requires_grad
    if value.layout == torch.strided:
        assert (back.stride(), back.storage_offset()) == (value.stride(), value.storage_offset())
        assert torch.equal(back, value)
    else:
        assert torch.equal(back.to_dense(), value.to_dense())


def file_of(address: int) -> str:
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(bound, 16) for bound in line.split()[0].split("-"))
        if low <= address < high:
            return line.split(maxsplit=5)[-1]
    raise AssertionError


def test_arrays_and_tensors_lie_in_the_mapped_file_on_cache_lines() -> None:
    table = pd.DataFrame({"a": np.arange(N), "b": np.arange(N) / 3, "c": [f"text {row}" for row in range(N)]})
    value = {"x": torch.rand(N, 7), "y": np.arange(N), "table": table}
    back = through_the_cache(value)
    addresses = [back["x"].data_ptr(), back["y"].__array_interface__["data"][0]]
    assert all(address % 64 == 0 and "buffers.npy" in file_of(address) for address in addresses)
    assert back["table"].equals(table)
    assert back["table"].dtypes.equals(table.dtypes)
    back["x"][0] = -1  # of this process alone
    assert torch.equal(through_the_cache(value)["x"], value["x"])


def test_what_is_one_stays_one() -> None:
    x = torch.arange(N * 2.0).reshape(N, 2)
    base = TensorDataset(x, torch.arange(N))
    rows = np.arange(N)
    value = {
        "train": Subset(base, range(900)),
        "val": Subset(base, range(900, N)),
        "half": x[: N // 2],
        "views": [rows.reshape(10, 10, -1).swapaxes(1, at) for at in (0, 2)],
    }
    packed = packed_value(value)
    assert packed.array_bytes == x.nbytes + 8 * N + rows.nbytes
    back = mapped_value(packed.store("me", ""))
    assert back["train"].dataset is back["val"].dataset
    back["half"][3] = -7
    assert back["train"].dataset.tensors[0][3].tolist() == [-7, -7]


def test_what_was_never_written_takes_no_room() -> None:
    entry = find_entry(packed_value([np.zeros(2**26), np.ones(N)]).store("me", "")["entry"])
    assert entry is not None
    stat = (entry.folder / "buffers.npy").stat()
    assert (stat.st_size > 2**29, stat.st_blocks * 512 < 2**22) == (True, True)


def test_generators_go_on_where_they_were() -> None:
    own, of_torch = np.random.default_rng(3), torch.Generator().manual_seed(3)
    own.random(), torch.rand(1, generator=of_torch)
    back = through_the_cache([own, of_torch])
    assert back[0].random() == own.random()
    assert torch.rand(1, generator=back[1]) == torch.rand(1, generator=of_torch)


def mapped_array(tmp_path: Path) -> np.ndarray:
    np.save(tmp_path / "x.npy", whole())
    return np.load(tmp_path / "x.npy", mmap_mode="r")


class OnlyWithin(Rows):
    def __getstate__(self) -> Any:
        raise RuntimeError("it is mine")


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a lambda": (lambda _: Rows(change=lambda x: x), "lambda"),
    "an open file": (lambda _: Rows(file=sys.stderr), "TextIOWrapper|EncodedFile|CaptureIO"),
    "a lock": (lambda _: Rows(lock=threading.Lock()), "lock"),
    "an own refusal": (lambda _: OnlyWithin(), "RuntimeError: it is mine"),
    "a mapped file": (mapped_array, "maps a file"),
    "what looks like an array": (lambda tmp: np.asarray(mapped_array(tmp)), "maps a file"),
    "a tensor of a mapped file": (lambda tmp: torch.from_numpy(np.asarray(mapped_array(tmp))), "maps a file"),
    "memory for several processes": (lambda _: torch.rand(N).share_memory_(), "shared memory"),
    "a map": (lambda _: Rows(memory=mmap.mmap(-1, 4096)), "maps a file"),
    "another device": (lambda _: torch.empty(N, device="meta"), "tensor on meta"),
    "the name of a device": (lambda _: Rows(device=torch.device("cuda", 1)), "names a device"),
    "its text": (lambda _: Rows(device="cuda:1"), "names a device"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_of_one_process_alone_is_refused(tmp_path: Path, kind: str) -> None:
    make, reason = REFUSED[kind]
    with pytest.raises(NotShared, match=reason):
        packed_value({"train": make(tmp_path)})


def test_python_objects_are_held_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert through_the_cache(["barracuda", {"a": 1}]) == ["barracuda", {"a": 1}]
    monkeypatch.setattr("lockstep.data.sharing.shared_value._MOST_STREAMED", 10_000)
    with pytest.raises(NotShared, match="Python objects"):
        packed_value([str(number) for number in range(10_000)])


def test_the_same_value_is_written_once_and_an_earlier_one_of_the_same_call_is_removed() -> None:
    first = packed_value([np.arange(N)]).store("me", "it")
    assert packed_value([np.arange(N)]).store("me", "it") == first
    other = packed_value([np.arange(N)]).store("another", "it")
    second = packed_value([np.arange(N) + 1]).store("me", "it")
    remove_earlier(second["entry"])
    assert {entry.name for entry in list_entries()} == {other["entry"], second["entry"]}
    assert {entry.about for entry in list_entries()} == {"it"}


def test_one_that_is_in_use_stays() -> None:
    held = packed_value([np.arange(N)]).store("me", "it")
    mapped_value(held)
    remove_earlier(packed_value([np.arange(N) + 1]).store("me", "it")["entry"])
    assert held["entry"] in {entry.name for entry in list_entries()}


def test_a_stream_that_somebody_else_wrote_is_not_read() -> None:
    shared = packed_value([1]).store("me", "")
    for told in ({**shared, "stream": "0" * 64}, {**shared, "entry": "data-none"}):
        with pytest.raises(NotShared, match="in the cache"):
            mapped_value(told)
    stream = cache_root() / shared["entry"] / "value.pickle"
    stream.write_bytes(b"x" * stream.stat().st_size)
    with pytest.raises(NotShared, match="in the cache"):
        mapped_value(shared)

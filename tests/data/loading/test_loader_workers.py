"""A batch that a loader's worker cannot send is an error, never a batch that the rank waits for."""

from __future__ import annotations

import gc
import tempfile
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from lockstep.data.common.errors import MachineError
from lockstep.data.loading.feed import Work
from lockstep.data.loading.loader_feed import LoaderFeed
from lockstep.data.loading.loader_workers import init_loader_worker
from lockstep.data.loading.normalise import Normalisation
from lockstep.data.sources.splits import MapSplit

N = 24
CPU = torch.device("cpu")


class Rows(Dataset[Any]):
    def __len__(self) -> int:
        return N

    def __getitem__(self, row: int) -> Any:
        return torch.full((3,), float(row)), row


class Word(str):
    """Goes through torch's collation, and cannot be sent."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        raise OSError(24, "Too many open files")


class Worded(Rows):
    def __getitem__(self, row: int) -> Any:
        return super().__getitem__(row)[0], Word(row) if row == 13 else str(row)


def open_loader(dataset: Dataset[Any]) -> LoaderFeed:
    normalise = Normalisation(torch.float32, None, None)
    return LoaderFeed(MapSplit(dataset, None), normalise, CPU, workers=2, classes=N, seed=0)


def read(feed: LoaderFeed) -> list[int]:
    work = [Work(np.arange(start, start + 4, dtype=np.int64), [4], 0, start) for start in range(0, N, 4)]
    return [int(value) for fetched in feed.fetch(iter(work)) for x, _ in fetched.micro for value in x[:, 0]]


class Collecting(Rows):
    def __getitem__(self, row: int) -> Any:
        gc.collect()
        return super().__getitem__(row)


class Owner:
    """An owner of a process group, in a circle, so that a collection alone frees it."""

    def __init__(self, folder: Path) -> None:
        self.itself = self
        store = dist.FileStore(str(folder / "store"), 1)
        self.group = dist.ProcessGroupGloo(store, 0, 1, timedelta(seconds=30))


def test_a_worker_frees_no_process_group_of_the_rank(tmp_path: Path) -> None:
    gc.disable()
    try:
        Owner(tmp_path)  # garbage; whoever frees it waits for its threads, of which a worker has none
        assert read(open_loader(Collecting())) == list(range(N))
    finally:
        gc.enable()


def test_nothing_lies_in_the_temporary_folder_whatever_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 150)  # in a socket's path there is room for 107 bytes
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    feed = open_loader(Rows())
    assert read(feed) == list(range(N))
    assert (
        list(folder.iterdir()) == []
    )  # while the workers live: what they had there, one that is killed would leave


def test_a_batch_that_cannot_be_sent_is_an_error_with_its_reason(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MachineError, match=r"worker cannot send a batch: OSError: .*Too many open files"):
        read(open_loader(Worded()))
    assert "Too many open files" in capfd.readouterr().err


class Unsendable:
    def __reduce__(self) -> Any:
        raise ValueError("not to be sent")


def as_it_is(samples: list[Any]) -> Any:
    return Unsendable() if 13 in samples else samples


def test_a_worker_that_cannot_even_say_so_ends(capfd: pytest.CaptureFixture[str]) -> None:
    loader = DataLoader(
        list(range(N)),  # type: ignore[arg-type]
        num_workers=1,
        collate_fn=as_it_is,
        multiprocessing_context="fork",
        worker_init_fn=partial(init_loader_worker, failed=lambda _: Unsendable()),
    )
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(loader)
    assert capfd.readouterr().err.count("ValueError: not to be sent") == 2

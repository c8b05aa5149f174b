"""A user's function is called once per machine; what it returned is the same where it is mapped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.data.cache.cache_list import list_entries, remove_entry
from lockstep.data.common.errors import DamagedError, UsageError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.loading.feed import Work
from lockstep.data.loading.feed_choice import open_feed
from lockstep.data.loading.normalise import Normalisation
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import open_order, open_split
from lockstep.data.sources import user_dataset

PLAIN = Normalisation(torch.float32, None, None)
CODE = """
import os, threading
import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

N = 60
SCALE = 1

def _called():
    with open(os.environ["CALLS"], "a") as file:
        file.write("called\\n")

def pairs(seconds=0):
    _called()
    g = torch.Generator().manual_seed(0)
    x, y = torch.rand(N, 5, generator=g), torch.arange(N) % 3
    return {"train": (x[:48], y[:48]), "val": (x[48:], y[48:])}

def unseeded():
    _called()
    return {"train": (torch.from_numpy(np.random.default_rng().random((N, 5))), torch.arange(N))}

def unseeded_globals():
    _called()
    x = torch.rand(N, 5) + torch.from_numpy(np.random.rand(N, 1))
    return {"train": (x[torch.randperm(N)], torch.arange(N))}

class Table(Dataset):
    factor = 1
    def __init__(self):
        self.frame = pd.DataFrame({"a": np.arange(N) / 7, "b": np.arange(N) % 4, "t": [f"{i}" for i in range(N)]})
        self.images = np.random.default_rng(0).integers(0, 256, (N, 6, 5, 3)).astype("uint8").transpose(0, 3, 1, 2)
    def __len__(self):
        return N
    def __getitem__(self, i):
        row = self.frame.iloc[i]
        image = torch.from_numpy(self.images[i]).float() * self.factor + torch.rand(1)
        return image, int(row["b"])

def table():
    _called()
    whole = Table()
    return {"train": Subset(whole, range(50)), "val": Subset(whole, range(50, N))}

def with_collate():
    _called()
    return {"train": Table(), "collate": stacked}

def stacked(samples):
    return torch.stack([x for x, _ in samples]), torch.tensor([y for _, y in samples]) + 1

class Part(IterableDataset):
    def __init__(self, rows): self.rows = rows
    def __len__(self): return len(self.rows)
    def __iter__(self): return ((row, 1) for row in self.rows)

def iterables():
    _called()
    return {"train": [Part(torch.rand(20, 300, generator=torch.Generator().manual_seed(s))) for s in range(3)]}

def sets_a_global():
    global SCALE
    SCALE = 7
    return pairs()

def sets_a_class():
    _called()
    Table.factor = 3
    return {"train": Table()}

class Locked(Table):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

def locked():
    _called()
    return {"train": Locked()}
"""
SHARED = ["pairs", "table", "with_collate", "iterables"]
CALLED_AGAIN = ["sets_a_global", "sets_a_class", "locked"]


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "mine.py").write_text(CODE)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("LOCKSTEP_CACHE", str(tmp_path / "cache"))
    (tmp_path / "calls").touch()
    return folder


def config(function: str, **more: Any) -> DataConfig:
    return DataConfig(use=f"./mine.py:{function}", batch_size=16, **more)


def calls(base: Path) -> int:
    return len((base.parent / "calls").read_text().splitlines())


def prepared(settings: DataConfig, base: Path) -> DatasetInfo:
    """Prepare, and forget what was called, as a rank never knew it; the facts have been on the way as JSON."""
    user_dataset._called.clear()
    facts = prepare(settings, base, build_cache=True)
    user_dataset._called.clear()
    return DatasetInfo.from_json(json.loads(json.dumps(facts.to_json())))


def batches(facts: DatasetInfo, settings: DataConfig, base: Path, workers: int = 0) -> list[Any]:
    """Two epochs of what a rank reads."""
    split = open_split(facts, "train", settings, base)
    feed = open_feed(split, PLAIN, torch.device("cpu"), workers=workers, classes=None, seed=3)
    order = open_order(facts, settings, base)
    work = []
    for epoch in (0, 1):
        for begin in range(0, order.n, 16):
            end = min(begin + 16, order.n)
            rows = order.indices(torch.arange(begin, end).numpy(), 3, epoch)
            work.append(Work(rows, [end - begin], epoch, begin))
    return [part for batch in feed.fetch(iter(work)) for micro in batch.micro for part in micro]


@pytest.mark.parametrize("function", SHARED)
def test_it_is_called_once_and_batches_are_those_of_a_call(base: Path, function: str) -> None:
    plain = config(function, share="off")
    facts = prepared(plain, base)
    expected = batches(facts, plain, base)
    assert (calls(base), facts.shared) == (2, {})
    settings = config(function)
    mapped = prepared(settings, base)
    found = batches(mapped, settings, base)
    user_dataset._called.clear()
    worked = batches(mapped, settings, base, workers=2)
    assert calls(base) == 3
    assert mapped.fingerprint == facts.fingerprint
    for one, other, third in zip(found, expected, worked, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
        assert torch.equal(third, other)


@pytest.mark.parametrize("function", CALLED_AGAIN)
def test_what_cannot_be_shared_is_called_in_each_process(base: Path, function: str) -> None:
    settings = config(function)
    facts = prepared(settings, base)
    assert facts.shared == {}
    batches(facts, settings, base)
    assert calls(base) == 2


def test_on_refuses_what_cannot_be_shared(base: Path) -> None:
    with pytest.raises(
        UsageError, match=r"data\.share: what \./mine\.py:locked returned cannot be shared: .*lock"
    ):
        prepared(config("locked", share="on"), base)


def test_draws_of_the_global_generators_are_the_same_on_every_call(base: Path) -> None:
    settings = config("unseeded_globals", share="off")
    first = batches(prepared(settings, base), settings, base)
    torch.rand(3)
    mapped = prepared(config("unseeded_globals"), base)
    assert mapped.shared
    assert all(torch.equal(a, b) for a, b in zip(first, batches(mapped, settings, base), strict=True))


def test_data_that_are_drawn_anew_are_refused_in_each_process(base: Path) -> None:
    settings = config("unseeded")
    facts = prepared(settings, base)
    assert facts.shared == {}
    with pytest.raises(DamagedError, match="returned other data in this process"):
        batches(facts, settings, base)


@pytest.mark.parametrize("why", ["gone", "others"])
def test_it_is_called_where_it_cannot_be_mapped(
    base: Path, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = config("table")
    facts = prepared(settings, base)
    if why == "gone":
        assert all(remove_entry(entry.name) for entry in list_entries())
    else:  # as if something of the call were missing in this process
        other = prepared(config("pairs"), base).shared
        facts = DatasetInfo.from_json({**facts.to_json(), "shared": other})
    before = calls(base)
    batches(facts, settings, base)
    assert calls(base) == before + 1
    assert "./mine.py:table is called in this process" in capsys.readouterr().err


def test_what_it_costs_is_said(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_SAID_SECONDS", "_SAID_BYTES"):
        monkeypatch.setattr(f"lockstep.data.sets.shared_data.{name}", 0)
    assert (
        "./mine.py:pairs: called once, 1.64 KiB that all processes" in prepared(config("pairs"), base).reading
    )
    reading = prepared(config("locked"), base).reading
    assert reading.startswith("./mine.py:locked: called in every process, which costs each ")
    assert " s and " in reading
    assert "lock" in reading


def test_a_part_of_several_sets_is_shared_as_well(base: Path) -> None:
    sets = {"a": {"use": "./mine.py:table"}, "b": {"use": "./mine.py:with_collate"}}
    settings = DataConfig(sets={"a": sets["a"], "b": {"use": "./mine.py:table", "args": {}}}, batch_size=16)
    facts = prepared(settings, base)
    before = calls(base)
    assert set(facts.parts["a"].shared) == {"entry", "stream"}
    batches(facts, settings, base)
    assert calls(base) == before


def test_only_a_training_keeps_it(base: Path) -> None:
    assert prepare(config("pairs"), base).shared == {}
    assert list_entries() == []

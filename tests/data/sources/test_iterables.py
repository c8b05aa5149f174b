"""A user's iterables: the same batches on any number of processes and workers, from any step on."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lockstep.data.common.errors import LockstepError, TrainingError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.loading.feed import Work
from lockstep.data.loading.feed_choice import open_feed
from lockstep.data.loading.normalise import Normalisation
from lockstep.data.order.sample_order import EpochBatches, EpochOrder
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import open_order, open_split
from lockstep.data.sources import user_dataset
from lockstep.data.sources.iterable_rows import IterableRows

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
BATCH, SHARDS, N = 12, 5, 63
CODE = """
import itertools, random
import torch
from torch.utils.data import IterableDataset, get_worker_info

class Shard(IterableDataset):
    def __init__(self, numbers, kind=""):
        self.numbers, self.kind, self.passes = numbers, kind, 0
    def __len__(self):
        return len(self.numbers) + {"long": -1, "short": 1}.get(self.kind, 0)
    def __iter__(self):
        self.passes += 1
        random.shuffle(first := [0, 1, 2])
        info = get_worker_info()
        for number in self.numbers[info.id if info else 0 :: info.num_workers if info else 1]:
            if self.kind == "raises" and number == 9:
                raise LookupError("no such line")
            drawn = {"other": self.passes, "generator": 0}.get(self.kind, random.random())
            yield torch.tensor([number, drawn, first[0], torch.rand(()).item()]), number % 3

class Seeking(Shard):
    sought = 0
    def __lockstep_seek__(self, position):
        Seeking.sought += 1
        off = 1 if self.kind == "wrong" else 0
        return iter(list(zip(itertools.repeat(torch.zeros(4)), self.numbers))[position + off:])
    def __iter__(self):
        return zip(itertools.repeat(torch.zeros(4)), self.numbers)

class Epochs(Shard):
    def set_epoch(self, epoch):
        self.epoch = epoch
    def __iter__(self):
        return ((torch.tensor([number, self.epoch]), 0) for number in self.numbers)

class Pictures(Shard):
    def __iter__(self):
        return ((torch.full((3, 8, 8), float(number)), 0) for number in self.numbers)

class Endless(IterableDataset):
    def __iter__(self):
        return ((torch.zeros(1), 0) for _ in itertools.count())

class LongEndless(Endless):
    def __len__(self):
        return 6

class Cut:
    def __init__(self, n, kind="", of=Shard):
        self.n, self.kind, self.of = n, kind, of
    def __lockstep_shard__(self, index, count):
        return self.of(range(self.n * index // count, self.n * (index + 1) // count), self.kind)

def data(n=63, kind="", of="Shard"):
    return {"train": Cut(n, kind, globals()[of]), "val": [Shard(range(4)), Shard(range(4, 4)), Shard(range(4, 11))]}

def endless(): return {"train": [Endless()]}
def long_endless(): return {"train": [LongEndless()] * 2}
def generators(): return {"train": [(x for x in [1, 2]), (x for x in [3, 4])]}
class Once(Shard):
    def __iter__(self): return self
    def __next__(self): return torch.zeros(1), 0
def once(): return {"train": [Once(range(3))]}
def plain(): return {"train": Shard(range(5))}
def weighted(): return {**data(), "weights": [1.0] * 63}
class NoShard:
    def __lockstep_shard__(self, index, count): return 7
def no_shard(): return {"train": NoShard()}
class Lines:
    def __init__(self, path, part, parts): self.path, self.part, self.parts = path, part, parts
    def __len__(self): return 20 // self.parts
    def __iter__(self):
        with open(self.path) as file:
            for number, line in enumerate(file):
                if number % self.parts == self.part:
                    yield torch.tensor([float(line)]), 0
def lines(path): return {"train": [Lines(path, part, 2) for part in range(2)]}
"""
PLAIN = Normalisation(torch.float64, None, None)
Batch = list[tuple[list[float], int]]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(CODE)
    user_dataset._called.clear()
    return tmp_path


def config(name: str = "data", **args: Any) -> DataConfig:
    return DataConfig(use=f"./mine.py:{name}", args=args, batch_size=BATCH, iterable_shards=SHARDS)


def rank_batches(
    base: Path, asked: DataConfig, world: int, workers: int, epoch: int = 1, first: int = 0
) -> list[list[Batch]]:
    """Read an epoch's steps from ``first`` on, as each rank does."""
    facts = prepare(asked, base)
    order = EpochOrder(open_order(facts, asked, base), 7, epoch)
    batches = EpochBatches(facts.train.length, BATCH)
    found = []
    for rank in range(world):
        split = open_split(facts, "train", asked, base)
        feed = open_feed(split, PLAIN, torch.device("cpu"), workers=workers, classes=None, seed=7)
        work = []
        for step in range(first, batches.steps):
            start, stop = batches.shard(step, rank, world)
            if stop > start:
                work.append(Work(order.indices(start, stop), [stop - start], epoch, start))
        read = []
        for one in feed.fetch(iter(work)):
            ((x, y),) = one.micro
            assert np.array_equal(one.indices, one.work.indices)
            read.append(list(zip(x.tolist(), y.tolist(), strict=True)))
        found.append(read)
    return found


def global_batches(*args: Any, **more: Any) -> list[Batch]:
    by_rank = rank_batches(*args, **more)
    return [[sample for part in step for sample in part] for step in zip(*by_rank, strict=False)]


EVERY = [pair for pair in product((1, 2, 3), (0, 1, 3)) if pair != (1, 0)]
SOME = [(2, 3), (3, 0)]


@pytest.mark.parametrize(
    ("world", "workers"),
    [pair if pair in SOME else pytest.param(*pair, marks=pytest.mark.exhaustive) for pair in EVERY],
)
def test_batches_are_the_same_on_any_number_of_processes_and_workers(
    base: Path, world: int, workers: int
) -> None:
    whole = global_batches(base, config(), 1, 0)
    assert sorted(int(x[0]) for batch in whole for x, _ in batch) == list(range(N))
    assert global_batches(base, config(), world, workers) == whole


@pytest.mark.parametrize("of", ["Shard", "Seeking"])
def test_any_step_can_be_the_first(base: Path, of: str) -> None:
    whole = global_batches(base, config(of=of), 1, 0)
    for first in range(1, len(whole)):
        assert global_batches(base, config(of=of), 1, 0, first=first) == whole[first:]


def test_a_place_is_sought_where_that_is_offered(base: Path) -> None:
    global_batches(base, config(n=300, of="Seeking"), 1, 0, first=20)
    shards = user_dataset._called[next(iter(user_dataset._called))][0]["train"].shards
    assert type(shards[0]).sought > 2 * 3  # those of the look at samples are fewer


def test_epochs_differ_by_what_is_drawn_and_are_told_to_those_that_ask(base: Path) -> None:
    first, second = (global_batches(base, config(), 1, 0, epoch=epoch) for epoch in (0, 1))
    assert first != second
    told = global_batches(base, config(of="Epochs"), 2, 0, epoch=5)
    assert {x[1] for batch in told for x, _ in batch} == {5.0}


def test_a_pass_that_an_epoch_has_left_is_not_gone_on_with_in_the_next(base: Path) -> None:
    prepare(config(of="Epochs"), base)
    shards = user_dataset._called[next(iter(user_dataset._called))][0]["train"].shards
    rows = IterableRows(shards, np.array([len(shard) for shard in shards]))
    for epoch, row in ((0, 2), (1, 5), (1, 7), (0, 9)):
        ((x, _),) = rows.read(np.array([row]), epoch, np.zeros(1, np.int64))
        assert x.tolist() == [row, epoch]


def test_files_are_opened_by_each_reader(base: Path) -> None:
    (base / "lines.txt").write_text("".join(f"{number}\n" for number in range(20)))
    asked = config("lines", path=str(base / "lines.txt"))
    whole = global_batches(base, asked, 1, 0)
    assert sorted(x[0] for batch in whole for x, _ in batch) == list(range(20))
    assert global_batches(base, asked, 2, 2) == whole


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.exhaustive), 2])
def test_evaluation_reads_each_sample_once(base: Path, workers: int) -> None:
    facts = prepare(config(), base)
    assert facts.val is not None
    assert facts.val.length == 11
    read = []
    for begin, end in ((0, 5), (5, 11)):
        split = open_split(facts, "val", config(), base)
        feed = open_feed(split, PLAIN, torch.device("cpu"), workers=workers, classes=None, seed=7)
        (one,) = feed.fetch(iter([Work(np.arange(begin, end), [end - begin], 0, begin)]))
        read += one.micro[0][0][:, 0].tolist()
    assert read == list(range(11))


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        (
            "data",
            {"kind": "other"},
            r"sample 0 of shard \d was another one on a second pass \(.*mine\.py:\d+\)",
        ),
        ("data", {"kind": "wrong", "of": "Seeking"}, r"another one after __lockstep_seek__\(1\)"),
        ("endless", {}, "shard 0 of 'train', of type Endless, has no __len__"),
        ("generators", {}, "shard 0 of 'train', of type generator, has no __len__"),
        ("once", {}, "shard 0 is of type Once, which can be passed through only once"),
        ("no_shard", {}, "returned int for shard 0 of 'train', not an iterable"),
        ("plain", {}, "returned an IterableDataset for 'train': its samples have no numbers"),
        ("weighted", {}, "returned 'weights' besides an iterable"),
    ],
)
def test_what_is_refused_before_the_ranks_start(
    base: Path, name: str, args: dict[str, str], words: str
) -> None:
    with pytest.raises(LockstepError, match=words):
        prepare(config(name, **args), base)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("data", {"kind": "long"}, r"shard \d yields more, and says that it has 1\d"),
        ("data", {"kind": "short"}, r"shard \d ended after 1\d samples, and says that it has 1\d"),
        ("long_endless", {}, "shard 0 yields more, and says that it has 6"),
        (
            "data",
            {"kind": "raises"},
            r"shard 0 raised LookupError at its sample 9: no such line\nat .*mine\.py:\d+",
        ),
    ],
)
def test_a_wrong_length_or_an_error_ends_the_run(
    base: Path, name: str, args: dict[str, str], words: str, workers: int
) -> None:
    with pytest.raises(TrainingError, match=words):
        global_batches(base, config(name, **args), 1, workers)


@pytest.mark.parametrize(
    "more",
    [
        {"val_size": 3},
        {"fold": {"k": 2, "index": 0}},
        {"balance": "classes"},
        {"weights": "w"},
        {"epoch_size": 10},
        {"group": "g"},
        {"stratify": True},
        {"collate": "./mine.py:data"},
        {"pad": {"to": 9}},
        {"on_bad": "skip"},
    ],
)
def test_settings_that_need_samples_with_numbers(base: Path, more: dict[str, Any]) -> None:
    asked = DataConfig.model_validate({**config().model_dump(), **more})
    with pytest.raises(LockstepError, match=rf"data\.{next(iter(more))}: "):
        prepare(asked, base)


def test_images_of_an_iterable_are_not_mixed(base: Path) -> None:
    asked = config(of="Pictures").model_dump() | {"augment": [{"use": "mixup"}]}
    with pytest.raises(LockstepError, match="not of shards or iterables"):
        prepare(DataConfig.model_validate(asked), base)


def test_several_sets_cannot_have_one(base: Path) -> None:
    sets = {name: {"use": "./mine.py:data", "weight": 1} for name in ("a", "b")}
    with pytest.raises(LockstepError, match=r"data\.sets\.a: iterables are read in an order of their own"):
        prepare(DataConfig.model_validate({"sets": sets}), base)


def test_the_number_of_shards_is_part_of_the_data(base: Path) -> None:
    prints = {prepare(config().model_copy(update={"iterable_shards": n}), base).fingerprint for n in (5, 6)}
    assert len(prints) == 1  # one process calls data() once
    user_dataset._called.clear()
    again = prepare(config().model_copy(update={"iterable_shards": 6}), base)
    assert again.fingerprint not in prints
    assert again.train.shard_lengths == (10, 11, 10, 11, 10, 11)

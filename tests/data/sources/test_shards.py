import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from lockstep.data.common.errors import DamagedError, TrainingError, UsageError
from lockstep.data.config.data_config import DataConfig, FoldConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.loading.feed import Work
from lockstep.data.loading.feed_choice import open_feed
from lockstep.data.loading.normalise import Normalisation
from lockstep.data.order.sample_order import EpochBatches, EpochOrder
from lockstep.data.order.window_order import WindowOrder
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import open_order, open_split
from lockstep.data.shards import shard_rows
from lockstep.data.sources import shards
from tests.helpers.shard_files import rows, write_arrow, write_json_lines, write_parquet

N = 1003
WRITERS = {"parquet": write_parquet, "jsonl": write_json_lines}


@pytest.fixture(params=WRITERS)
def ending(request, tmp_path, monkeypatch):
    monkeypatch.setattr("lockstep.data.shards.json_lines.PART_BYTES", 1000)
    WRITERS[request.param](tmp_path / "train", N, 9)
    WRITERS[request.param](tmp_path / "val", 101, 2)
    return request.param


def config_of(ending="jsonl", batch_size=32, **args):
    named = {"files": f"train/*.{ending}", "val_files": f"val/*.{ending}", "input": "x", "target": "label"}
    if "decode" in args:
        named = {key: value for key, value in named.items() if key.endswith("files")}
    named = {key: value for key, value in {**named, "window": 8, **args}.items() if value is not None}
    return DataConfig(use="shards", args=named, batch_size=batch_size)


def fetch(facts, config, base, works, workers=0, which="train"):
    split = open_split(facts, which, config, base)
    plain = Normalisation(torch.float64, None, None)
    feed = open_feed(split, plain, torch.device("cpu"), workers=workers, classes=None, seed=0)
    return list(feed.fetch(iter(works)))


def works_of(facts, config, base, world=1, rank=0, epoch=1, first=0, micro=1):
    order = EpochOrder(open_order(facts, config, base), 0, epoch)
    batches = EpochBatches(order.n, config.batch_size)
    for step in range(first, batches.steps):
        begin, end = batches.shard(step, rank, world)
        if begin < end:
            sizes = [part.size for part in np.array_split(np.arange(end - begin), min(micro, end - begin))]
            yield Work(order.indices(begin, end), sizes, epoch, begin)


def numbers(batch):
    """The row numbers that the inputs of a batch tell."""
    return torch.cat([x[:, 0] for x, _ in batch.micro]).long().tolist()


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize(("workers", "world", "micro"), [(0, 1, 1), (0, 3, 2), (2, 1, 3), (3, 2, 1)])
def test_rows_of_an_epoch_are_those_of_the_order_for_any_ranks_workers_and_micro_batches(
    tmp_path, ending, workers, world, micro
):
    config = config_of(ending)
    facts = prepare(config, tmp_path)
    seen = []
    for rank in range(world):
        works = list(works_of(facts, config, tmp_path, world, rank, micro=micro))
        for work, batch in zip(works, fetch(facts, config, tmp_path, works, workers), strict=True):
            assert batch.indices.tolist() == work.indices.tolist() == numbers(batch)
            assert [x.shape[0] for x, _ in batch.micro] == work.micro
            labels = torch.cat([y for _, y in batch.micro]).tolist()
            assert labels == [number % 10 for number in numbers(batch)]
            seen += batch.indices.tolist()
    assert sorted(seen) == list(range(N))


def test_arrow_files_are_read_as_others_are(tmp_path):
    write_arrow(tmp_path / "train", N, 9)
    config = config_of("arrow", val_files=None)
    facts = prepare(config, tmp_path)
    works = list(works_of(facts, config, tmp_path))
    read = [numbers(batch) for batch in fetch(facts, config, tmp_path, works)]
    assert read == [work.indices.tolist() for work in works]
    cut_off(tmp_path / "train" / "003.arrow")
    with pytest.raises(DamagedError, match=r"train/003\.arrow, row group \d+: .*changed"):
        fetch(facts, config, tmp_path, works)


def test_facts_say_what_the_set_is(tmp_path, ending):
    facts = prepare(config_of(ending), tmp_path)
    assert (facts.train.length, facts.val.length) == (N, 101)
    assert (facts.input_shape, facts.target_shape, facts.classes) == ((3,), (), None)
    assert any(note.startswith("shuffled within 8 of ") for note in facts.notes)
    assert DatasetInfo.from_json(facts.to_json()) == facts


def test_validation_reads_every_row_in_its_order(tmp_path, ending):
    config = config_of(ending)
    facts = prepare(config, tmp_path)
    works = [
        Work(np.arange(begin, min(begin + 40, 101)), [min(40, 101 - begin)], 0, begin)
        for begin in (0, 40, 80)
    ]
    read = [n for batch in fetch(facts, config, tmp_path, works, 2, "val") for n in numbers(batch)]
    assert read == list(range(101))


def test_each_group_is_read_once_in_an_epoch_and_few_are_held(tmp_path, ending, monkeypatch):
    config = config_of(ending)
    facts = prepare(config, tmp_path)
    loads, held = [], []
    load, hold = shard_rows.ShardRows._read_group, shard_rows.GroupCache.hold

    def counted(self, group):
        loads.append(group)
        return load(self, group)

    def watched(self, *args):
        found = hold(self, *args)
        held.append(len(self))
        return found

    monkeypatch.setattr(shard_rows.ShardRows, "_read_group", counted)
    monkeypatch.setattr(shard_rows.GroupCache, "hold", watched)
    order = open_order(facts, config, tmp_path)
    fetch(facts, config, tmp_path, works_of(facts, config, tmp_path))
    assert len(loads) <= order.groups.count + 8  # those where a lane ends are read by two
    assert max(held) <= 2 * 8
    loads.clear()
    fetch(facts, config, tmp_path, works_of(facts, config, tmp_path, world=4, rank=1))
    assert len(loads) <= order.groups.count / 4 + 8


@pytest.mark.parametrize("window", [8, None])
def test_batches_of_a_block_begin_on_cache_lines_and_nothing_read_ahead_is_left(
    tmp_path, ending, monkeypatch, window
):
    rows = []
    made = shard_rows.ShardRows.__post_init__
    monkeypatch.setattr(shard_rows.ShardRows, "__post_init__", lambda self: rows.append(self) or made(self))
    config = config_of(ending, batch_size=11, columns={"label": "float"}, window=window)
    facts = prepare(config, tmp_path)
    works = list(works_of(facts, config, tmp_path, micro=2))
    for batch in fetch(facts, config, tmp_path, works):
        assert all(value.data_ptr() % 64 == 0 for pair in batch.micro for value in pair)
    assert rows[-1].block_rows > 2 * 11  # several batches are read at once
    assert not rows[-1]._ahead
    assert window is None or len(rows[-1]._cache) <= 8


def test_resuming_reads_no_group_that_is_done_with(tmp_path, ending, monkeypatch):
    config = config_of(ending)
    facts = prepare(config, tmp_path)
    last = list(works_of(facts, config, tmp_path, first=28))
    monkeypatch.setattr(
        shard_rows.ShardRows, "_read_group", counted := Counted(shard_rows.ShardRows._read_group)
    )
    resumed = fetch(facts, config, tmp_path, last)
    assert [numbers(batch) for batch in resumed] == [work.indices.tolist() for work in last]
    assert counted.calls <= 2 * 8 + 8


class Counted:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __get__(self, instance, owner):
        def call(*args):
            self.calls += 1
            return self.function(instance, *args)

        return call


def test_a_small_set_is_permuted_as_a_whole_and_read_once(tmp_path, ending, monkeypatch):
    config = config_of(ending, window=None)
    facts = prepare(config, tmp_path)
    assert facts.train.window is None
    assert not isinstance(open_order(facts, config, tmp_path), WindowOrder)
    monkeypatch.setattr(
        shard_rows.ShardRows, "_read_group", counted := Counted(shard_rows.ShardRows._read_group)
    )
    works = [work for epoch in (0, 1, 2) for work in works_of(facts, config, tmp_path, epoch=epoch)]
    read = [n for batch in fetch(facts, config, tmp_path, works) for n in numbers(batch)]
    assert sorted(read) == sorted([*range(N)] * 3)
    groups = shards.ShardIndex.load(shards.Path(facts.train.files["index"])).groups
    assert counted.calls == groups.count


def test_the_window_follows_from_the_size_of_row_groups(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(shards, "_SMALL_BYTES", 1000)
    one = prepare(config_of(ending, window=None), tmp_path)
    index = shards.ShardIndex.load(shards.Path(one.train.files["index"]))
    assert one.train.window == index.groups.count  # all of them fit
    assert one.found[0].key == "data.args.window"
    monkeypatch.setattr(shards, "_WINDOW_BYTES", 10)
    two = prepare(config_of(ending, window=None), tmp_path)
    assert two.train.window == 8
    assert one.fingerprint != two.fingerprint


def test_the_index_is_kept_until_a_file_changes(tmp_path, ending, monkeypatch):
    first = prepare(config_of(ending), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "scan_shards", lambda *_: pytest.fail("looked again"))
        again = prepare(config_of(ending), tmp_path)
        assert replace(again, look=first.look) == first  # a busy machine looks at fewer samples
    path = next((tmp_path / "train").glob("003*"))
    os.utime(path, ns=(1, 1))
    assert prepare(config_of(ending), tmp_path).fingerprint == first.fingerprint
    shutil.copyfile(next((tmp_path / "train").glob("004*")), path)
    assert prepare(config_of(ending), tmp_path).fingerprint != first.fingerprint


def test_a_moved_folder_is_the_same_data(tmp_path, ending):
    first = prepare(config_of(ending), tmp_path)
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("train", "val"):
        (tmp_path / name).rename(moved / name)
    assert prepare(config_of(ending), moved).fingerprint == first.fingerprint


def test_the_users_function_makes_samples_and_its_draws_have_keys(tmp_path, ending):
    (tmp_path / "own.py").write_text(
        "import random\ndef decode(row): return [row['x'][0], random.random()], len(row['name'])\n"
    )
    config = config_of(ending, decode="./own.py:decode")
    facts = prepare(config, tmp_path)
    one, two = (
        {
            int(x[0]): float(x[1])
            for batch in fetch(
                facts, config, tmp_path, list(works_of(facts, config, tmp_path, micro=micro)), workers
            )
            for inputs in [torch.cat([torch.stack(x, 1) for x, _ in batch.micro])]
            for x in inputs
        }
        for workers, micro in ((0, 1), (2, 2))
    )
    assert one == two
    assert len(one) == N == len(set(one.values()))


def test_an_error_of_the_users_function_names_file_group_and_row(tmp_path, ending):
    code = "def decode(row):\n    if row['name'] == 'r500': 1 / 0\n    return row['x'], row['label']\n"
    (tmp_path / "own.py").write_text(code)
    config = config_of(ending, decode="./own.py:decode")
    facts = prepare(config, tmp_path)
    where = rf"row 500 \(train/00\d\.{ending}, row group \d+, row \d+ of the file\)"
    with pytest.raises(TrainingError, match=where) as error:
        fetch(facts, config, tmp_path, works_of(facts, config, tmp_path))
    assert "own.py:2" in error.value.message


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_value_names_file_group_and_row(tmp_path, workers):
    write_json_lines(tmp_path / "train", N, 3)
    path = tmp_path / "train" / "001.jsonl"
    lines = path.read_text().splitlines()
    lines[7] = lines[7].replace('"label": ', '"label": "cat", "was": ')
    path.write_text("\n".join(lines))
    config = config_of("jsonl", val_files=None)
    facts = prepare(config, tmp_path)
    what = r"train/001\.jsonl, row group 0, row 7 of the file: 'label' is 'cat', not int"
    with pytest.raises(DamagedError, match=what):
        fetch(facts, config, tmp_path, works_of(facts, config, tmp_path), workers)


def vanish(path):
    path.unlink()


def overwrite(path):
    text = path.read_bytes()
    middle = len(text) // 8  # of a column that is read
    path.write_bytes(text[:middle] + bytes([text[middle] ^ 255]) * 40 + text[middle + 40 :])


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def replace_by_another(path):
    other = path.parent / f"000{path.suffix}"
    shutil.copyfile(other, path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (vanish, "the file is gone"),
        (cut_off, "changed|cut off"),
        (replace_by_another, "changed"),
        (overwrite, "changed|read"),
    ],
)
def test_a_file_that_changes_under_way_ends_the_run_by_name(tmp_path, ending, change, reason):
    config = config_of(ending)
    facts = prepare(config, tmp_path)
    change(tmp_path / "train" / f"003.{ending}")
    with pytest.raises(DamagedError, match=rf"train/003\.{ending}, row group \d+: .*({reason})"):
        fetch(facts, config, tmp_path, works_of(facts, config, tmp_path))


@pytest.mark.parametrize("change", [cut_off, overwrite])
def test_a_damaged_parquet_file_is_named_before_the_start(tmp_path, change):
    write_parquet(tmp_path / "train", N, 9)
    for number in (2, 5):
        cut_off(tmp_path / "train" / f"00{number}.parquet")
    with pytest.raises(DamagedError, match="2 of 9 files cannot be read") as error:
        prepare(config_of("parquet", val_files=None), tmp_path)
    assert "train/002.parquet: it does not end as a Parquet file does" in error.value.message
    assert "train/005.parquet" in error.value.message


def test_files_with_other_columns_are_named_before_the_start(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")
    from pyarrow import parquet

    write_parquet(tmp_path / "train", N, 9)
    table = pa.Table.from_pylist([{**row, "label": "cat"} for row in rows(0, 10)])
    parquet.write_table(table, tmp_path / "train" / "004.parquet")
    with pytest.raises(DamagedError, match="1 of 9 files have other columns") as error:
        prepare(config_of("parquet", val_files=None), tmp_path)
    assert "train/004.parquet: 'label' is text, in most files int" in error.value.message


def test_files_without_rows_are_left_out_and_said(tmp_path):
    write_json_lines(tmp_path / "train", N, 9)
    (tmp_path / "train" / "0000.jsonl").write_text("")
    (tmp_path / "train" / "005a.jsonl").write_text("\n\n")
    config = config_of("jsonl", val_files=None)
    facts = prepare(config, tmp_path)
    assert "2 of 11 train files have no rows" in facts.notes
    batches = fetch(facts, config, tmp_path, works_of(facts, config, tmp_path))
    assert sorted(n for batch in batches for n in numbers(batch)) == list(range(N))


def test_a_set_without_any_row_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.jsonl").write_text("\n")
    with pytest.raises(DamagedError, match="have no rows"):
        prepare(config_of("jsonl", val_files=None), tmp_path)


WRONG = [
    ({"files": None}, "data.args.files is missing"),
    ({"files": "none/*.jsonl"}, "there is no file"),
    ({"files": ["train/*.jsonl", "train/000.jsonl"]}, "two patterns name train/000.jsonl"),
    ({"files": ["train/*.jsonl", "train/a.txt"]}, "of no known format"),
    ({"input": "y"}, "there is no column 'y'"),
    ({"target": None}, "data.args.target is missing"),
    ({"columns": {"x": "picture"}}, "not a map of columns to kinds"),
    ({"columns": {"z": "int"}}, "there is no column 'z'"),
    ({"window": 0}, "not a number of row groups"),
    ({"fils": "a"}, "no such argument"),
    ({"decode": "./own.py:decode", "target": "label"}, "decode makes the sample"),
]


@pytest.mark.parametrize(("args", "message"), WRONG)
def test_a_wrong_argument_is_named(tmp_path, args, message):
    write_json_lines(tmp_path / "train", 50, 2)
    (tmp_path / "train" / "a.txt").write_text("x")
    with pytest.raises(UsageError, match=message):
        prepare(config_of("jsonl", **{"val_files": None, **args}), tmp_path)


@pytest.mark.parametrize("more", [{"val_size": 5}, {"fold": FoldConfig(k=2, index=0)}])
def test_shards_are_not_split_by_rows(tmp_path, more):
    write_json_lines(tmp_path / "train", 50, 2)
    with pytest.raises(UsageError, match="validated on files of their own"):
        prepare(config_of("jsonl", val_files=None).model_copy(update=more), tmp_path)

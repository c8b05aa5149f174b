"""Each format of shards through the feed, and a data set that was saved as a folder."""

import json

import pytest

from lockstep.data.common.errors import DamagedError, UsageError
from lockstep.data.prepare import prepare
from lockstep.data.sources import shards
from tests.data.sources.test_shards import N, config_of, cut_off, fetch, numbers, vanish, works_of
from tests.helpers.shard_files import write_arrow, write_gzipped, write_tar


@pytest.fixture(params=["tar", "jsonl.gz"])
def ending(request, tmp_path, monkeypatch):
    monkeypatch.setattr("lockstep.data.shards.tar_files.PART_BYTES", 50_000)
    write = write_tar if request.param == "tar" else write_gzipped
    write(tmp_path / "train", N, 9)
    return request.param


def columns(ending):
    return {"input": "npy", "target": "cls", "val_files": None} if ending == "tar" else {"val_files": None}


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_of_an_epoch_are_those_of_the_order(tmp_path, ending, workers):
    config = config_of(ending, **columns(ending))
    facts = prepare(config, tmp_path)
    works = list(works_of(facts, config, tmp_path, micro=2))
    batches = fetch(facts, config, tmp_path, works, workers)
    assert [numbers(batch) for batch in batches] == [work.indices.tolist() for work in works]
    labels = [label for batch in batches for _, y in batch.micro for label in y.tolist()]
    assert labels == [n % 10 for work in works for n in work.indices.tolist()]


@pytest.mark.parametrize(("change", "reason"), [(vanish, "the file is gone"), (cut_off, "changed")])
def test_a_file_that_changes_under_way_ends_the_run_by_name(tmp_path, ending, change, reason):
    config = config_of(ending, **columns(ending))
    facts = prepare(config, tmp_path)
    change(tmp_path / "train" / f"003.{ending}")
    with pytest.raises(DamagedError, match=rf"train/003\.{ending}, row group \d+: .*({reason})"):
        fetch(facts, config, tmp_path, works_of(facts, config, tmp_path))


def test_what_a_file_in_one_piece_costs_is_said(tmp_path, monkeypatch):
    write_gzipped(tmp_path / "train", N, 9)
    config = config_of("jsonl.gz", val_files=None)
    assert not any("in one piece" in note for note in prepare(config, tmp_path).notes)
    monkeypatch.setattr(shards, "_LARGE_PIECE", 1000)
    assert any(
        note.startswith("9 of 9 train files are compressed") for note in prepare(config, tmp_path).notes
    )


def save(folder, n=N):
    """Lay files out as ``datasets.save_to_disk`` does: in an order that only its state says."""
    paths = write_arrow(folder, n, 3)
    names = [path.name for path in reversed(paths)]
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")


def test_a_saved_data_set_is_named_by_its_folder(tmp_path):
    save(tmp_path / "saved" / "train")
    config = config_of("", files="saved/train", val_files=None)
    facts = prepare(config, tmp_path)
    rows = shards.ShardIndex.load(shards.Path(facts.train.files["index"]))
    assert [shard.name for shard in rows.shards] == [f"saved/train/00{n}.arrow" for n in (2, 1, 0)]
    read = [
        n
        for batch in fetch(facts, config, tmp_path, works_of(facts, config, tmp_path))
        for n in numbers(batch)
    ]
    assert sorted(read) == list(range(N))


def test_a_folder_that_is_no_saved_data_set_is_refused(tmp_path):
    save(tmp_path / "saved" / "train")
    with pytest.raises(UsageError, match=r"without a state\.json") as error:
        prepare(config_of("", files="saved", val_files=None), tmp_path)
    assert "name one of train in it" in error.value.hint
    (tmp_path / "saved" / "train" / "state.json").write_text("{}")
    with pytest.raises(UsageError, match="names no files"):
        prepare(config_of("", files="saved/train", val_files=None), tmp_path)

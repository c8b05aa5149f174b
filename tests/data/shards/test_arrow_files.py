import numpy as np
import pytest

from lockstep.data.shards.arrow_files import ArrowFiles
from lockstep.data.shards.shard_format import ShardChangedError
from lockstep.data.storage.local_files import LocalFile
from tests.helpers.shard_files import rows

pa = pytest.importorskip("pyarrow", reason="Arrow files need pyarrow")


def write(path, table, form):
    new = pa.ipc.new_stream if form == "stream" else pa.ipc.new_file
    with new(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=40)
    return str(path)


@pytest.mark.parametrize("form", ["stream", "file"])
def test_record_batches_of_both_formats_are_read(tmp_path, form):
    path = write(tmp_path / "a.arrow", pa.Table.from_pylist(rows(0, 100)), form)
    scan = ArrowFiles().scan(LocalFile(path))
    assert [place.rows for place in scan.places] == [40, 40, 20]
    assert scan.kinds == {"x": "list", "label": "int", "name": "text"}
    shard = ArrowFiles().open(LocalFile(path), scan.digest, ("x", "name"))
    taken = shard.read(scan.places[1]).take(np.array([3, 0]))
    assert taken["x"][:, 0].tolist() == [43, 40]
    assert taken["name"] == ["r43", "r40"]


def test_a_record_batch_whose_bytes_changed_is_not_read(tmp_path):
    path = write(tmp_path / "a.arrow", pa.Table.from_pylist(rows(0, 100)), "stream")
    scan = ArrowFiles().scan(LocalFile(path))
    place = scan.places[1]
    text = bytearray((tmp_path / "a.arrow").read_bytes())
    text[(place.begin + place.end) // 2] ^= 1
    (tmp_path / "a.arrow").write_bytes(text)
    shard = ArrowFiles().open(LocalFile(path), scan.digest, None)
    shard.read(scan.places[0])
    with pytest.raises(ShardChangedError):
        shard.read(place)
    assert ArrowFiles().scan(LocalFile(path)).digest != scan.digest


@pytest.mark.parametrize("size", [0, 5, 100, 2000])
def test_a_file_that_is_cut_off_is_refused(tmp_path, size):
    path = write(tmp_path / "a.arrow", pa.Table.from_pylist(rows(0, 100)), "stream")
    (tmp_path / "a.arrow").write_bytes((tmp_path / "a.arrow").read_bytes()[:size])
    with pytest.raises((ValueError, OSError)):
        ArrowFiles().scan(LocalFile(path))


@pytest.mark.parametrize("form", ["stream", "file"])
def test_a_file_that_is_cut_off_between_two_batches_is_refused(tmp_path, form):
    path = write(tmp_path / "a.arrow", pa.Table.from_pylist(rows(0, 100)), form)
    end = ArrowFiles().scan(LocalFile(path)).places[1].end
    (tmp_path / "a.arrow").write_bytes((tmp_path / "a.arrow").read_bytes()[:end])
    with pytest.raises(ValueError, match="cut off"):
        ArrowFiles().scan(LocalFile(path))


def test_dictionaries_are_refused(tmp_path):
    table = pa.table({"a": pa.array(["u", "v"]).dictionary_encode()})
    with pytest.raises(ValueError, match="without dictionaries"):
        ArrowFiles().scan(LocalFile(write(tmp_path / "a.arrow", table, "stream")))

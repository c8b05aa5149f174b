import numpy as np
import pytest

from lockstep.data.shards.parquet_files import ParquetFiles
from lockstep.data.shards.shard_format import ShardChangedError
from lockstep.data.storage.local_files import LocalFile
from tests.helpers.shard_files import write_parquet

pa = pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

COLUMNS = {
    "int": (np.arange(10, dtype=np.int16), "int"),
    "float": (np.arange(10.0), "float"),
    "half": (pa.array(np.arange(10, dtype=np.float16)), "float"),
    "truth": ([True, False] * 5, "int"),
    "null": ([1, None] * 5, "int"),
    "text": (["a", "b"] * 5, "text"),
    "code": (pa.array(["a", "b"] * 5).dictionary_encode(), "text"),
    "vector": ([[1.5, 2.5]] * 10, "list"),
    "fixed": (pa.array([[1, 2]] * 10, pa.list_(pa.int8(), 2)), "list"),
    "matrix": ([[[1, 2], [3, 4]]] * 10, "list"),
    "ragged": ([[1] * n for n in range(10)], "list"),
    "bytes": ([b"x"] * 10, "bytes"),
    "picture": ([{"bytes": b"x", "path": None}] * 10, "image"),
    "texts": ([["a"]] * 10, "other"),
}


def write(path, group=4):
    parquet.write_table(
        pa.table({name: values for name, (values, _) in COLUMNS.items()}), path, row_group_size=group
    )
    return str(path)


def test_columns_of_every_type_are_known_and_read(tmp_path):
    path = write(tmp_path / "a.parquet")
    scan = ParquetFiles().scan(LocalFile(path))
    assert [place.rows for place in scan.places] == [4, 4, 2]
    assert scan.kinds == {name: kind for name, (_, kind) in COLUMNS.items()}
    taken = (
        ParquetFiles().open(LocalFile(path), scan.digest, None).read(scan.places[1]).take(np.array([3, 1]))
    )
    whole = parquet.read_table(path).to_pydict()
    for name, values in taken.items():
        listed = values.tolist() if isinstance(values, np.ndarray) else values
        assert listed == [whole[name][7], whole[name][5]], name
    arrays = {name for name, values in taken.items() if isinstance(values, np.ndarray)}
    assert arrays == {"int", "float", "half", "truth", "vector", "fixed", "matrix"}
    assert taken["int"].dtype == np.int16
    assert taken["matrix"].shape == (2, 2, 2)


def test_only_the_wanted_columns_are_read(tmp_path):
    path = write(tmp_path / "a.parquet")
    scan = ParquetFiles().scan(LocalFile(path))
    group = ParquetFiles().open(LocalFile(path), scan.digest, ("float", "text")).read(scan.places[0])
    assert group.take(np.array([0])).keys() == {"float", "text"}


def test_a_file_that_was_replaced_is_refused_when_it_is_opened(tmp_path):
    (path,) = write_parquet(tmp_path, 100, 1)
    scan = ParquetFiles().scan(LocalFile(str(path)))
    write_parquet(tmp_path, 101, 1)
    with pytest.raises(ShardChangedError):
        ParquetFiles().open(LocalFile(str(path)), scan.digest, None)


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_file_that_is_cut_off_is_refused(tmp_path, size):
    (path,) = write_parquet(tmp_path, 100, 1)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"too few|cut off"):
        ParquetFiles().scan(LocalFile(str(path)))


def test_groups_without_rows_are_left_out(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"n": [1, 2]})
    with parquet.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table.slice(0, 0))
        writer.write_table(table)
    scan = ParquetFiles().scan(LocalFile(str(path)))
    assert [place.rows for place in scan.places] == [2]
    group = ParquetFiles().open(LocalFile(str(path)), scan.digest, None).read(scan.places[0])
    assert group.take(np.array([1]))["n"].tolist() == [2]

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lockstep.data.common.errors import LockstepError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.inputs.input_rows import InputRows, find_inputs
from tests.helpers.dataset_infos import PICTURES

NUMBERS = replace(PICTURES, name="numbers", kind="user", input_shape=(2, 3), input_dtype="float32")
WHOLE = replace(NUMBERS, input_shape=(2,), input_dtype="int64")


def _find(*sources: Path, facts: object = NUMBERS, resize: bool = False, **args: object) -> InputRows:
    config = DataConfig(use="numbers", batch_size=4, args=args)
    return find_inputs([str(source) for source in sources], facts, config, resize=resize)


def _picture(path: Path, size: tuple[int, int] = (10, 12), value: int = 7) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((size[1], size[0]), value, np.uint8)).save(path)
    return path


def test_tables_of_numbers_are_rows_of_the_trained_shape_and_type(tmp_path: Path) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(2, 2, 3) / 8
    np.save(tmp_path / "a.npy", rows)
    np.save(tmp_path / "one.npy", rows[0].astype(np.float64))
    (tmp_path / "b.jsonl").write_text("\n".join(map(str, rows.tolist())) + "\n\n")
    (tmp_path / "c.csv").write_text("\n".join(",".join(map(str, row.ravel())) for row in rows) + "\n")
    (tmp_path / "headed.csv").write_text("a,b,c,d,e,f\n" + (tmp_path / "c.csv").read_text())
    for name in ("a.npy", "b.jsonl", "c.csv", "headed.csv"):
        found = _find(tmp_path / name)
        assert found.read(0, 2).dtype == np.float32
        assert np.array_equal(found.read(0, 2), rows), name
    assert np.array_equal(_find(tmp_path / "one.npy").read(0, 1), rows[:1])
    both = _find(tmp_path / "headed.csv", tmp_path / "b.jsonl")
    assert both.names == [
        f"{tmp_path}/{name}" for name in ("headed.csv:2", "headed.csv:3", "b.jsonl:1", "b.jsonl:2")
    ]


def test_images_come_from_files_folders_and_columns_of_paths(tmp_path: Path) -> None:
    one, two = _picture(tmp_path / "in/b.png", value=3), _picture(tmp_path / "in/a.png", value=5)
    (tmp_path / "in/notes.txt").write_text("no image")
    (tmp_path / "list.csv").write_text("label,path\ncat,in/a.png\ndog,in/b.png\n")
    (tmp_path / "other.csv").write_text("file\nin/a.png\n")
    assert _find(one, facts=PICTURES).read(0, 1).shape == (1, 1, 12, 10)
    found = _find(tmp_path / "in", facts=PICTURES)
    assert found.names == [str(two), str(one)]
    assert found.read(0, 2)[:, 0, 0, 0].tolist() == [5, 3]
    assert _find(tmp_path / "list.csv", facts=PICTURES).names == [str(two), str(one)]
    assert len(_find(tmp_path / "other.csv", facts=PICTURES, path_column="file")) == 1


def test_an_image_of_another_size_is_resized_only_where_that_is_asked_for(tmp_path: Path) -> None:
    large = _picture(tmp_path / "large.png", size=(20, 24))
    with pytest.raises(LockstepError, match=r"large\.png"):
        _find(large, facts=PICTURES).read(0, 1)
    assert _find(large, facts=PICTURES, resize=True).read(0, 1).shape == (1, 1, 12, 10)
    assert _find(large, facts=PICTURES, size=[12, 10]).read(0, 1).shape == (1, 1, 12, 10)


@pytest.mark.parametrize(
    ("name", "text", "facts", "message"),
    [
        ("a.csv", "1,2,3\n", WHOLE, r"a\.csv:1: 3 numbers, but the model takes 2: int64 \[2\]"),
        ("a.csv", "a,b\n1,2\n1,x\n", WHOLE, r"a\.csv:3: not a row of numbers, and there is no column 'path'"),
        ("a.csv", "1,2.5\n", WHOLE, r"a\.csv:1: a number is no int64"),
        ("a.csv", "path\nnowhere.png\n", PICTURES, r"a\.csv:2: .*nowhere\.png: there is no such file"),
        ("a.csv", "x,path\n1\n", PICTURES, r"a\.csv:2: this row has no path"),
        ("a.jsonl", "[1, 2]\n[1,\n", WHOLE, r"a\.jsonl:2: not a JSON array"),
        ("a.jsonl", "[[1], [1, 2]]\n", WHOLE, r"a\.jsonl:1: not a JSON array"),
        ("a.jsonl", '["a", "b"]\n', WHOLE, r"a\.jsonl:1: something else than numbers"),
        ("a.jsonl", "[300, 1]\n", replace(WHOLE, input_dtype="uint8"), r"a\.jsonl:1: a number is no uint8"),
        ("a.npy", "text", WHOLE, r"a\.npy: not a NumPy array"),
        ("a.txt", "1,2\n", WHOLE, r"a\.txt: not a kind of file that is read"),
        ("a.png", "text", WHOLE, r"a\.png: an image, but the model takes int64 \[2\]"),
        ("a.csv", "1,2\n", replace(WHOLE, input_shape=None), "not a single array"),
    ],
)
def test_what_the_model_does_not_take_is_refused(
    tmp_path: Path, name: str, text: str, facts: object, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(LockstepError, match=message):
        _find(tmp_path / name, facts=facts)


def test_what_is_not_there_and_what_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LockstepError, match="there is no such file"):
        _find(tmp_path / "nothing.csv")
    with pytest.raises(LockstepError, match="no image in this folder"):
        _find(tmp_path)
    with pytest.raises(LockstepError, match="of several lengths"):
        find_inputs([], NUMBERS, DataConfig(use="x", batch_size=4, collate="./a.py:b"), resize=False)

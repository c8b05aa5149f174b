from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lockstep.data.common.errors import DamagedError, LockstepError, UsageError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo
from lockstep.data.prepare import prepare
from lockstep.data.sources.array_cache import load_array
from lockstep.data.sources.registry import open_split
from lockstep.data.sources.splits import MapSplit
from tests.helpers.dataset_files import files_below, write_images

NAMES = ["a.png", "b.png", "sub/c.png", "sub/d.png"]
GOOD = "path,label\na.png,cat\nb.png,dog\nsub/c.png,cat\nsub/d.png,cow\n"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_images(tmp_path / "base" / "images", NAMES)
    (tmp_path / "base" / "train.csv").write_text(GOOD)
    return tmp_path / "base"


def config(**args) -> DataConfig:
    return DataConfig(use="csv_images", args={"root": "images", "train_csv": "train.csv"} | args)


def paths(split: SplitInfo) -> list[str]:
    blob, offsets = (load_array(split.files[role]) for role in ("paths", "offsets"))
    assert (blob.dtype, offsets.dtype) == (np.uint8, np.int64)
    return [blob[a:b].tobytes().decode() for a, b in pairwise(offsets)]


def test_a_good_one(base: Path) -> None:
    facts = prepare(config(), base)
    assert DatasetInfo.from_json(facts.to_json()) == facts
    assert (facts.kind, facts.input_shape, facts.input_dtype) == ("images", (1, 5, 7), "uint8")
    assert facts.class_names == ("cat", "cow", "dog")
    assert facts.train.class_counts == (2, 1, 1)
    assert facts.val is None
    assert paths(facts.train) == NAMES
    split = open_split(facts, "train", config(), base)
    assert isinstance(split, MapSplit)
    assert [(int(x[0, 0, 0]), int(y)) for x, y in (split.dataset[row] for row in range(4))] == [
        (0, 0),
        (1, 2),
        (2, 0),
        (3, 1),
    ]


def test_validation_file_uses_the_classes_of_training(base: Path) -> None:
    (base / "val.csv").write_text("path,label\na.png,dog\n")
    facts = prepare(config(val_csv="val.csv"), base)
    assert facts.val is not None
    assert (facts.val.length, facts.val.class_counts) == (1, (0, 0, 1))
    (base / "val.csv").write_text("path,label\na.png,bird\n")
    with pytest.raises(DamagedError, match=r"val.csv:2: 'bird' is none of the classes cat, cow, dog"):
        prepare(config(val_csv="val.csv"), base)


def test_whole_numbers_are_their_own_classes(base: Path) -> None:
    (base / "train.csv").write_text("path,label\na.png,10\nb.png,2\n")
    facts = prepare(config(), base)
    assert facts.classes == 11
    assert load_array(facts.train.files["y"]).tolist() == [10, 2]


def test_given_classes_are_in_the_given_order(base: Path) -> None:
    facts = prepare(config(classes=["dog", "cow", "cat", "fox"]), base)
    assert facts.class_names == ("dog", "cow", "cat", "fox")
    assert load_array(facts.train.files["y"]).tolist() == [2, 0, 2, 1]


def test_other_columns_quotes_and_a_byte_order_mark(base: Path) -> None:
    text = '\ufeffid,kind,file\n1,"cat","a.png"\n\n2,"a\nb",b.png\n3,NA,sub/c.png\n'
    (base / "train.csv").write_text(text, encoding="utf-8")
    facts = prepare(config(path_column="file", label_column="kind"), base)
    assert facts.class_names == ("NA", "a\nb", "cat")
    assert paths(facts.train) == ["a.png", "b.png", "sub/c.png"]


def test_mode_size_and_normalisation(base: Path) -> None:
    settings = config(mode="RGB", size=[4, 6], mean=[0.1, 0.2, 0.3], std=0.5)
    facts = prepare(settings, base)
    assert (facts.input_shape, facts.mean, facts.std) == ((3, 4, 6), (0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    split = open_split(facts, "train", settings, base)
    assert split.dataset[3][0].shape == (3, 4, 6)


def test_the_fingerprint_changes_with_content_not_with_place(base: Path, tmp_path: Path) -> None:
    before = prepare(config(), base)
    moved = base.rename(tmp_path / "moved")
    assert prepare(config(), moved).fingerprint == before.fingerprint
    write_images(moved / "images", ["b.png"], size=(5, 8))
    assert prepare(config(), moved).fingerprint != before.fingerprint


def test_links_inside_the_root_and_dots_that_stay_there(base: Path) -> None:
    (base / "images" / "link.png").symlink_to(base / "images" / "a.png")
    (base / "train.csv").write_text("path,label\nlink.png,0\nsub/../b.png,1\n./a.png,1\n")
    assert prepare(config(), base).train.length == 3


def refused(base: Path, rows: str, **args) -> LockstepError:
    (base / "train.csv").write_text("path,label\n" + rows)
    with pytest.raises(DamagedError) as caught:
        prepare(config(**args), base)
    assert caught.value.exit_status == 6
    assert caught.value.hint
    assert files_below(base.parent / "cache") == [], "nothing of a bad data set is kept"
    return caught.value


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",cat", "the path is empty"),
        ("b.png,", "the label is empty"),
        ("b.png", "the label is empty"),
        ("x.png,cat", "'x.png': No such file or directory"),
        ("sub,cat", "'sub' is no file"),
        ("a.png/b.png,cat", "'a.png/b.png': Not a directory"),
        ("/etc/passwd,cat", "'/etc/passwd' is absolute"),
        ("../secret.png,cat", "'../secret.png' leads outside"),
        ("sub/../../secret.png,cat", "'sub/../../secret.png' leads outside"),
        ("../images_too/e.png,cat", "'../images_too/e.png' leads outside"),
        ("out.png,cat", "'out.png' leads outside"),
        ("outside/secret.png,cat", "'outside/secret.png' leads outside"),
        ("..,cat", "'..' leads outside"),
        ("b\x1b.png,cat", "the path 'b\\x1b.png' has control characters"),
        ('"b\n.png",cat', "the path 'b\\n.png' has control characters"),
        ("b.png,-1", "the label -1 is negative"),
    ],
)
def test_bad_rows(base: Path, row: str, message: str) -> None:
    write_images(base, ["secret.png", "images_too/e.png"])
    (base / "images" / "out.png").symlink_to(base / "secret.png")
    (base / "images" / "outside").symlink_to(base)
    labels = "7" if row.endswith("-1") else "cat"
    error = refused(base, f"a.png,{labels}\n{row}\nsub/c.png,{labels}\n")
    assert error.message.startswith(f"{base / 'train.csv'}:3: ")
    assert message in error.message


def test_nul_in_a_path(base: Path) -> None:
    error = refused(base, "a.png,cat\nb.png\0.jpg,cat\n")
    assert "control characters" in error.message or "not a CSV" in error.message


def test_an_unknown_label_names_the_classes(base: Path) -> None:
    error = refused(base, "a.png,cat\nb.png,dog\n", classes=["cat", "cow"])
    assert "train.csv:3: 'dog' is none of the classes cat, cow" in error.message


def test_many_bad_rows_are_counted(base: Path) -> None:
    error = refused(base, "".join(f"{n}.png,cat\n" for n in range(100)))
    lines = error.message.splitlines()
    assert [line.split(": ")[0][-5:] for line in lines[:3]] == ["csv:2", "csv:3", "csv:4"]
    assert lines[3:] == ["and 97 more bad rows"]


def test_lines_are_those_of_an_editor(base: Path) -> None:
    """Empty lines and quoted line ends move rows away from their numbers."""
    error = refused(base, 'a.png,cat\n\n   \nb.png,"two\nlines"\nx.png,cat\n')
    assert "train.csv:7: 'x.png'" in error.message


def test_no_csv_at_all(base: Path) -> None:
    error = refused(base, 'a.png,cat\nb.png,"dog\n')
    assert f"{base / 'train.csv'}: not a CSV file in UTF-8" in error.message
    assert "starting at line 3" in error.message


def test_other_encodings_and_empty_files(base: Path) -> None:
    (base / "train.csv").write_bytes("path,label\na.png,Käse\n".encode("latin-1"))
    with pytest.raises(DamagedError, match="not a CSV file in UTF-8"):
        prepare(config(), base)
    (base / "train.csv").write_text("")
    with pytest.raises(DamagedError, match=r"train\.csv"):
        prepare(config(), base)
    (base / "train.csv").write_text("path,label\n")
    with pytest.raises(DamagedError, match="has no rows"):
        prepare(config(), base)


@pytest.mark.parametrize("row", ["b.png,cat,", "b.png,cat,extra", "b,c.png,cat"])
def test_rows_with_too_many_fields(base: Path, row: str) -> None:
    error = refused(base, f"a.png,cat\n{row}\n")
    assert "Expected 2 fields in line 3, saw 3" in error.message


def test_a_first_row_with_too_many_fields(base: Path) -> None:
    assert "line 2 has more fields than line 1" in refused(base, "a.png,cat,\nb.png,cat,\n").message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            {"train_cvs": "x"},
            "data.args.train_cvs: csv_images has no such argument, did you mean 'train_csv'?",
        ),
        ({"root": "imges"}, "data.args.root: there is no folder"),
        ({"root": 3}, "data.args.root: 3 is no text"),
        ({"train_csv": "tran.csv"}, "data.args.train_csv: there is no file"),
        ({"train_csv": None}, "data.args.train_csv is missing"),
        ({"val_csv": "v.csv"}, "data.args.val_csv: there is no file"),
        ({"path_column": "pth"}, "has no column 'pth', did you mean 'path'?"),
        ({"label_column": "class"}, "has no column 'class'"),
        ({"classes": ["cat", "cat"]}, "data.args.classes"),
        ({"classes": "cat"}, "data.args.classes: 'cat' is no list"),
        ({"mode": "CMYK"}, "data.args.mode: 'CMYK' is neither L nor RGB"),
        ({"size": 3}, "data.args.size: 3 is not [height, width]"),
        ({"size": [0, 3]}, "data.args.size: [0, 3]"),
        ({"mean": [1, 2, 3]}, "data.args.mean: [1, 2, 3] is not a number, or a list of 1"),
    ],
)
def test_bad_arguments(base: Path, args: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        prepare(config(**args), base)
    assert message in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_status == 2


def test_a_missing_column_lists_the_columns(base: Path) -> None:
    with pytest.raises(UsageError) as caught:
        prepare(config(label_column="class"), base)
    assert "its columns are path, label; name one in data.args.label_column" in caught.value.hint


def test_a_corrupt_image_names_file_and_row(base: Path) -> None:
    facts = prepare(config(), base)
    (base / "images" / "b.png").write_bytes(b"nonsense")
    split = open_split(facts, "train", config(), base)
    with pytest.raises(DamagedError) as caught:
        split.dataset[1]
    assert str(base / "images" / "b.png") in caught.value.message
    assert "(row 1 of train.csv)" in caught.value.message


def test_an_image_of_another_size_names_the_way_out(base: Path) -> None:
    write_images(base / "images", ["b.png"], size=(9, 9))
    facts = prepare(config(), base)
    split = open_split(facts, "train", config(), base)
    with pytest.raises(DamagedError, match="9 x 9 pixels") as caught:
        split.dataset[1]
    assert "data.args.size" in caught.value.hint


def test_a_first_image_that_is_corrupt(base: Path) -> None:
    (base / "images" / "a.png").write_bytes(b"nonsense")
    with pytest.raises(DamagedError, match=r"a\.png is no readable image"):
        prepare(config(), base)


def test_val_size_splits_the_rows(base: Path) -> None:
    settings = config().model_copy(update={"val_size": 1})
    facts = prepare(settings, base)
    splits = [open_split(facts, which, settings, base) for which in ("train", "val")]
    assert [len(split) for split in splits] == [3, 1]
    rows = np.concatenate([split.subset for split in splits])
    assert sorted(rows.tolist()) == [0, 1, 2, 3]


def test_val_csv_and_val_size_contradict(base: Path) -> None:
    settings = config(val_csv="train.csv").model_copy(update={"val_size": 1})
    with pytest.raises(UsageError, match="has validation data of its own"):
        prepare(settings, base)
    assert prepare(settings.model_copy(update={"val_size": 0}), base).val is None

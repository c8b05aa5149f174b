from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lockstep.data.cache.array_cache import load_array
from lockstep.data.common.errors import DamagedError, LockstepError, UsageError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo
from lockstep.data.image_sets import image_survey
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import open_split
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


@pytest.mark.parametrize(
    ("labels", "names", "indices"),
    [
        (["1", "0", "2", "1"], ("0", "1", "2"), [1, 0, 2, 1]),
        (["2021", "2019", "2021", "2019"], ("2019", "2021"), [1, 0, 1, 0]),
        (["10", "2", "10", "9"], ("2", "9", "10"), [2, 0, 2, 1]),
        (["-1", "1", "1", "-1"], ("-1", "1"), [0, 1, 1, 0]),
        (["1.0", "0.0", "1.0", "0.0"], ("0.0", "1.0"), [1, 0, 1, 0]),
        (["03", "3", "4", "4"], ("03", "3", "4"), [0, 1, 2, 2]),
        (["cat", "cat ", " dog", "dog"], ("cat", "dog"), [0, 0, 1, 1]),
        (["1", "nan", "inf", "1_0"], ("1", "1_0", "inf", "nan"), [0, 3, 2, 1]),
    ],
)
def test_labels_become_classes(
    base: Path, labels: list[str], names: tuple[str, ...], indices: list[int]
) -> None:
    rows = "".join(f"{path},{label}\n" for path, label in zip(NAMES, labels, strict=True))
    (base / "train.csv").write_text("path,label\n" + rows)
    facts = prepare(config(), base)
    assert (facts.class_names, facts.classes) == (names, len(names))
    assert load_array(facts.train.files["y"]).tolist() == indices
    numbers = all(name.removeprefix("-").replace(".", "").isdigit() for name in names)
    noted = any("is class" in note for note in facts.notes)
    assert noted == (numbers and names != ("0", "1", "2"))


def test_labels_that_are_no_indices_are_named(base: Path) -> None:
    (base / "train.csv").write_text("path,label\na.png,2021\nb.png,2019\n")
    assert prepare(config(), base).notes == (
        "the labels are not 0 to 1, so they are names: 2019 is class 0, 2021 is class 1",
    )


def test_classes_that_differ_in_case_alone_are_noted(base: Path) -> None:
    (base / "train.csv").write_text("path,label\na.png,Cat\nb.png,cat\nsub/c.png,dog\n")
    assert "classes differ in upper and lower case alone: Cat, cat" in prepare(config(), base).notes


def test_quantities_are_no_classes(base: Path) -> None:
    (base / "train.csv").write_text("path,label\na.png,0.0\nb.png,0.37\nsub/c.png,1.25\n")
    with pytest.raises(UsageError, match=r"numbers such as 0\.37") as caught:
        prepare(config(), base)
    assert "regression" in caught.value.hint
    assert prepare(config(classes=["0.0", "0.37", "1.25"]), base).classes == 3


@pytest.mark.parametrize(("separator", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_other_separators_are_found_and_said(base: Path, separator: str, word: str) -> None:
    (base / "train.csv").write_text(GOOD.replace(",", separator))
    facts = prepare(config(), base)
    assert (paths(facts.train), facts.class_names) == (NAMES, ("cat", "cow", "dog"))
    assert facts.notes == (f"train.csv is separated by {word}",)
    (base / "train.csv").write_text(GOOD.replace(",", separator) + f"\nnone.png{separator}cat\n")
    with pytest.raises(DamagedError, match=r"train\.csv:7: 'none\.png'"):
        prepare(config(), base)


def test_a_separator_can_be_set(base: Path) -> None:
    (base / "train.csv").write_text(GOOD.replace(",", "~"))
    assert paths(prepare(config(separator="~"), base).train) == NAMES
    with pytest.raises(UsageError, match=r"data\.args\.separator: ';;' is not one character"):
        prepare(config(separator=";;"), base)


def test_a_column_that_is_there_twice_is_refused(base: Path) -> None:
    (base / "train.csv").write_text("path,label,label\na.png,cat,dog\n")
    with pytest.raises(UsageError, match=r"has 2 columns 'label'"):
        prepare(config(), base)
    (base / "train.csv").write_text("path,label,x,x\na.png,cat,1,2\n")
    assert prepare(config(), base).classes == 1


@pytest.mark.parametrize("first", ["L", "RGB"])
def test_channels_are_those_of_the_set_and_not_of_the_first_row(base: Path, first: str) -> None:
    write_images(base / "images", NAMES, mode="L" if first == "RGB" else "RGB")
    write_images(base / "images", NAMES[:1], mode=first)
    facts = prepare(config(), base)
    assert facts.input_shape == (3, 5, 7)
    grey = "1 of 4 images is" if first == "L" else "3 of 4 images are"
    assert facts.notes == (f"{grey} grey and read as colour, as the others are",)
    assert prepare(config(mode="L"), base).input_shape == (1, 5, 7)


def test_images_on_their_side_are_turned_and_that_is_said(base: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    before = prepare(config(), base)
    Image.new("L", (5, 7), 9).save(base / "images" / "b.png", exif=exif)  # 7 high and 5 wide as stored
    facts = prepare(config(), base)
    assert facts.input_shape == (1, 5, 7)
    assert facts.notes == ("1 of 4 images is turned upright, as the EXIF data says",)
    assert facts.fingerprint != before.fingerprint
    split = open_split(facts, "train", config(), base)
    assert split.dataset[1][0].shape == (1, 5, 7)


def test_an_image_that_was_changed_in_place_is_looked_at_anew(base: Path) -> None:
    """With as many bytes as before, as a changed orientation has."""
    exif = Image.Exif()
    path = base / "images" / "b.png"
    sizes = []
    for orientation, turned in ((1, False), (3, True), (1, False)):
        exif[0x0112] = orientation
        Image.new("L", (7, 5), 9).save(path, exif=exif)
        sizes.append(path.stat().st_size)
        assert any("turned upright" in note for note in prepare(config(), base).notes) == turned
    assert len(set(sizes)) == 1


def test_of_a_large_set_a_sample_is_looked_at(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_survey, "MOST", 2)
    facts = prepare(config(), base)
    assert facts.notes == ("2 of 4 images were looked at",)


def test_a_colour_image_that_was_not_looked_at_is_never_made_grey(base: Path) -> None:
    facts = prepare(config(), base)
    size = (base / "images" / "b.png").stat().st_size
    write_images(base / "images", ["b.png"], mode="RGB")
    assert size
    split = open_split(facts, "train", config(), base)
    with pytest.raises(DamagedError, match="is in colour"):
        split.dataset[1]


def test_a_csv_below_the_root_is_pointed_at(base: Path) -> None:
    (base / "images" / "list.csv").write_text(GOOD)
    with pytest.raises(UsageError, match="there is no file") as caught:
        prepare(config(train_csv="list.csv"), base)
    assert "data.args.train_csv=images/list.csv" in caught.value.hint


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
    before = prepare(config(size=[5, 7]), base)
    moved = base.rename(tmp_path / "moved")
    assert prepare(config(size=[5, 7]), moved).fingerprint == before.fingerprint
    write_images(moved / "images", ["b.png"], size=(5, 8))
    assert prepare(config(size=[5, 7]), moved).fingerprint != before.fingerprint


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
        ("sub,cat", "'sub' is not a file"),
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
        ("empty.png,cat", "'empty.png' is empty"),
    ],
)
def test_bad_rows(base: Path, row: str, message: str) -> None:
    write_images(base, ["secret.png", "images_too/e.png"])
    (base / "images" / "out.png").symlink_to(base / "secret.png")
    (base / "images" / "outside").symlink_to(base)
    (base / "images" / "empty.png").touch()
    error = refused(base, f"a.png,cat\n{row}\nsub/c.png,cat\n")
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
        ({"root": 3}, "data.args.root: 3 is not text"),
        ({"train_csv": "tran.csv"}, "data.args.train_csv: there is no file"),
        ({"train_csv": None}, "data.args.train_csv is missing"),
        ({"val_csv": "v.csv"}, "data.args.val_csv: there is no file"),
        ({"path_column": "pth"}, "has no column 'pth', did you mean 'path'?"),
        ({"label_column": "class"}, "has no column 'class'"),
        ({"classes": ["cat", "cat"]}, "data.args.classes"),
        ({"classes": ["cat", "cat "]}, "data.args.classes"),
        ({"classes": "cat"}, "data.args.classes: 'cat' is not a list"),
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
    with pytest.raises(DamagedError, match=r"train\.csv:3: b\.png is 9 x 9 pixels") as caught:
        prepare(config(), base)
    assert "most images are 5 x 7 pixels" in caught.value.message
    assert "data.args.size" in caught.value.hint
    assert prepare(config(size=[5, 7]), base).input_shape == (1, 5, 7)


@pytest.mark.parametrize(("name", "line"), [("a.png", 2), ("sub/d.png", 5)])
def test_an_image_that_is_corrupt_is_named_before_anything_starts(base: Path, name: str, line: int) -> None:
    (base / "images" / name).write_bytes(b"nonsense")
    with pytest.raises(DamagedError, match=rf"train\.csv:{line}: .*{name} is not a readable image"):
        prepare(config(), base)
    (base / "images" / name).write_bytes(b"%PDF and so on")
    with pytest.raises(DamagedError, match=rf"train\.csv:{line}: .*it is a PDF file"):
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

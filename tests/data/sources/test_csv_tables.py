"""CSV files as people have them: encodings, separators, headers, labels; each read rightly, noted or refused."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from lockstep.data.cache.array_cache import load_array
from lockstep.data.common.errors import LockstepError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.prepare import prepare
from tests.helpers.dataset_files import write_images

GOOD = "path,label\na.png,cat\nb.png,dog\nc.png,cat\n"
NAMES = ["a.png", "b.png", "c.png", "d.png"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_images(tmp_path / "base", NAMES)
    return tmp_path / "base"


def read(base: Path, train: str | bytes, val: str | None = None, **settings) -> DatasetInfo:
    (base / "train.csv").write_bytes(train if isinstance(train, bytes) else train.encode())
    args = {"train_csv": "train.csv"}
    if val is not None:
        (base / "val.csv").write_text(val)
        args["val_csv"] = "val.csv"
    data = {key: settings.pop(key) for key in ("val_size",) if key in settings}
    return prepare(DataConfig(use="csv_images", args=args | settings, **data), base)


def samples(facts: DatasetInfo) -> list[tuple[str, str]]:
    blob, offsets, y = (load_array(facts.train.files[role]) for role in ("paths", "offsets", "y"))
    paths = [blob[a:b].tobytes().decode() for a, b in pairwise(offsets)]
    assert facts.class_names is not None
    return [(path, facts.class_names[label]) for path, label in zip(paths, y.tolist(), strict=True)]


SAME = [("a.png", "cat"), ("b.png", "dog"), ("c.png", "cat")]


@pytest.mark.parametrize(
    "content",
    [
        GOOD.encode("utf-8-sig"),
        GOOD.encode("utf-16"),
        GOOD.encode("utf-32"),
        "\ufeff".encode("utf-16-be") + GOOD.encode("utf-16-be"),
        GOOD.replace("\n", "\r"),
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r\n", 2),
        GOOD.replace(",", ", "),
        GOOD.replace(",", " ,")
        .replace("a.png ", "a.png")
        .replace("b.png ", "b.png")
        .replace("c.png ", "c.png"),
        GOOD.replace(",", ', "').replace("\n", '"\n'),
        '"path","label"\n"a.png","cat"\n"b.png",dog\nc.png,"cat"\n',
        "\n\n" + GOOD.replace("\n", "\n\n  \n"),
        'id,label,note,path\n1,cat,,a.png\n2,dog,"x\ny",b.png\n3,cat,,c.png\n',
        '"a\nname",path,label\n1,a.png,cat\n1,b.png,dog\n1,c.png,cat\n',
        "path,label,\na.png,cat,\nb.png,dog,\nc.png,cat,\n",
        GOOD.replace(",", "\t").encode("utf-16"),
        "id,path,label\r\r,a.png,cat\r\r,b.png,dog\r,c.png,cat\r",
    ],
)
def test_files_that_say_the_same_are_read_alike(base: Path, content: str | bytes) -> None:
    assert samples(read(base, content)) == SAME


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (GOOD.encode("utf-16-le"), "it holds zero bytes", "save it as UTF-8"),
        (gzip.compress(GOOD.encode(), mtime=0), "is compressed by gzip: not a CSV file", "unpack it"),
        (b"PK\x03\x04" + bytes(100), "is an Excel workbook or a zip archive", "save the sheet as CSV"),
        (b"PAR1" + bytes(range(200)), "is a Parquet file", "data.use=shards"),
        ("path,label\na.png,x\nb.png,Käse\n".encode("latin-1"), "line 3 holds other bytes", "WINDOWS-1252"),
        ("# made by hand\n" + GOOD, "has no column 'path'", "remove that line"),
        ("sep=;\n" + GOOD.replace(",", ";"), "has no column 'path'", "remove that line"),
        ("a.png,cat\nb.png,dog\n", "has no column 'path'", "write a header above the first row"),
        ("path label\na.png cat\n", "has no column 'path'", "its columns are path label"),
        ("path,label,label \na.png,cat,dog\n", "has 2 columns 'label'", "rename"),
        ('path,label,"x\ny",label\na.png,cat,1,dog\n', "has 2 columns 'label'", "rename"),
        ("path;label\na.png,cat\n", "train.csv:2: the label is empty", "correct these rows"),
        ("path,label\na.png,0,5\n", "line 2 has more fields than line 1", "correct"),
        (GOOD + "d.png,cat,x\n", "Expected 2 fields in line 5, saw 3", "correct"),
        (f"path,label\na.png,cat\n\nnone.png,{'x' * 200_000}\n", "train.csv:4: 'none.png'", "correct"),
        ('path, label\na.png, "x\ny"\nnone.png, cat\n', "train.csv:4: 'none.png'", "correct"),
        (f"path,label,{'x' * 200_000}\nnone.png,cat,1\n", "train.csv:2: 'none.png'", "correct"),
    ],
)
def test_what_cannot_be_read_rightly_is_refused(
    base: Path, content: str | bytes, message: str, hint: str
) -> None:
    with pytest.raises(LockstepError) as caught:
        read(base, content)
    assert message in caught.value.message
    assert hint in caught.value.hint


def labelled(*labels: str) -> str:
    return "path,label\n" + "".join(f'{name},"{label}"\n' for name, label in zip(NAMES, labels, strict=False))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("0", "nan", "1"), "train.csv:3: the label 'nan' stands among numbers"),
        (("0", "1", "NA", "null"), "train.csv:4: the label 'NA'"),
        (("1", "inf", "2"), "train.csv:3: the label 'inf'"),
        (("0.3", "nan", "1.7"), "numbers such as 0.3"),
        (("0,5", "1,5", "2,5"), "numbers such as 0,5"),
        (("1.5%", "2.5%", "3%"), "numbers such as 1.5%"),
        (("0.3", "0.4", "1.7", "unknown"), "numbers such as 0.3"),
        (("1e-3", "2e-3"), "numbers such as 1e-3"),
    ],
)
def test_quantities_and_missing_values_are_no_classes(
    base: Path, labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(LockstepError) as caught:
        read(base, labelled(*labels))
    assert message in caught.value.message
    assert "data.args.classes" in caught.value.hint
    assert read(base, labelled(*labels), classes=list(dict.fromkeys(labels))).classes == len(set(labels))


@pytest.mark.parametrize(
    ("labels", "classes", "note"),
    [
        (
            ("NA", "cat", "NA"),
            2,
            "the label NA of 2 rows is a class of its own, though it looks like a missing value",
        ),
        (("01", "1", "2"), 3, "classes are the same number: 01, 1"),
        (("1", "1.0", "0"), 3, "classes are the same number: 1, 1.0"),
        (("True", "true", "False"), 3, "classes differ in upper and lower case alone: True, true"),
        (("new_york", "new york", "new-york"), 3, "classes are nearly equal: new york, new-york, new_york"),
        (("Ka\u0308se", "Käse", "x"), 3, "classes are nearly equal: Ka\u0308se, Käse"),
        (("cat\u200b", "cat", "x"), 3, "classes are nearly equal: cat, cat\u200b"),
        (("a\nb", "c", "d"), 3, "1 label holds line ends, the first in line 2: is a quote not closed?"),
        (
            ("1,000", "2,000"),
            2,
            "the labels are not 0 to 1, so they are names: 1,000 is class 0, 2,000 is class 1",
        ),
        (("2", "10%", "10"), 3, "classes are the same number: 10, 10%"),
        (("1.5 l", "2.5 l", "x"), 3, None),
        (("-1", "1", "a-1"), 3, None),
        (("cat", "dog", " cat", "dog "), 2, None),
        (("cat\u00a0", "cat", "dog"), 2, None),
        (("True", "False"), 2, None),
        (("0.5", "small", "large"), 3, None),
    ],
)
def test_labels_that_look_like_mistakes_are_noted(
    base: Path, labels: tuple[str, ...], classes: int, note: str | None
) -> None:
    facts = read(base, labelled(*labels))
    assert facts.classes == classes
    assert (note in facts.notes) if note else facts.notes == ()


def test_files_that_are_named_twice_are_noted(base: Path) -> None:
    (base / "link.png").symlink_to("a.png")
    facts = read(
        base, GOOD + "./a.png,dog\nlink.png,cat\n", "path,label\nd.png,cat\nb.png,dog\n", size=[5, 7]
    )
    assert facts.notes == (
        "2 training rows name a file that another one names, too",
        "1 of these files has several labels: a.png is cat and dog",
        "1 validation row names a file that is trained on",
    )
    (note,) = read(base, GOOD + "a.png,cat\n", val_size=1).notes
    assert note.endswith("names, too; data.val_size may put one into training and one into validation")
    assert read(base, GOOD, "path,label\nd.png,cat\n").notes == ()


def test_sizes_and_what_is_lost_of_images_are_noted(base: Path) -> None:
    Image.new("RGBA", (9, 3)).save(base / "a.png")
    Image.new("LA", (4, 20)).save(base / "b.png")
    notes = read(base, GOOD, size=[5, 7]).notes
    assert notes == (
        "2 of 3 images are grey and read as colour, as the others are",
        "2 of 3 images have an alpha channel, which is dropped",
        "images of 3 x 4 to 20 x 9 pixels (high x wide) are resized to 5 x 7",
    )


def test_what_was_found_can_be_set_and_then_it_is_not_found(base: Path) -> None:
    facts = read(base, GOOD.replace(",", ";"))
    assert [(setting.key, setting.value) for setting in facts.found] == [
        ("data.args.separator", ";"),
        ("data.args.classes", ("cat", "dog")),
        ("data.args.mode", "L"),
        ("data.args.size", (5, 7)),
    ]
    settings = {setting.key.rpartition(".")[2]: setting.value for setting in facts.found}
    again = read(base, GOOD.replace(",", ";"), **settings)
    assert again.found == ()
    assert again.fingerprint == facts.fingerprint
    assert DatasetInfo.from_json(json.loads(json.dumps(facts.to_json()))) == facts

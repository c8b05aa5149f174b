"""``image_folder``: files by class and name, read and kept as those of ``csv_images``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from lockstep.data.cache.array_cache import load_array
from lockstep.data.common.errors import DamagedError, UsageError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import open_split
from lockstep.data.sources.splits import ArraySplit, MapSplit
from tests.helpers.dataset_files import write_images

NAMES = ["cat/b.png", "cat/a.png", "cat/deep/c.png", "10/x.png", "2/y.PNG"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_images(tmp_path / "base" / "images" / "train", NAMES)
    write_images(tmp_path / "base" / "images" / "val", ["2/z.png", "cat/z.png"])
    (tmp_path / "base" / "images" / "train" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "base" / "images" / "train" / "README.png").write_text("beside the classes")
    write_images(tmp_path / "base" / "images" / "hollow", ["a/a.png", "c/c.png"])
    (tmp_path / "base" / "images" / "hollow" / "b").mkdir()
    return tmp_path / "base"


def config(**more) -> DataConfig:
    args = {"train": "images/train", "val": "images/val"} | more.pop("args", {})
    return DataConfig(use="image_folder", args=args, **more)


def test_it_is_torchvisions_image_folder(base: Path) -> None:
    facts = prepare(config(), base)
    assert DatasetInfo.from_json(facts.to_json()) == facts
    theirs = torchvision.datasets.ImageFolder(str(base / "images" / "train"))
    assert (facts.class_names, facts.classes) == (tuple(theirs.classes), 3) == (("10", "2", "cat"), 3)
    split = open_split(facts, "train", config(), base)
    assert isinstance(split, MapSplit)
    assert len(split) == len(theirs)
    to_tensor = torchvision.transforms.functional.pil_to_tensor
    for (x, y), (image, label) in zip((split.dataset[row] for row in range(5)), theirs, strict=True):
        assert torch.equal(x, to_tensor(image)[:1])
        assert int(y) == label
    assert facts.val is not None
    assert load_array(facts.val.files["y"]).tolist() == [1, 2]
    assert any("1 file in" in note and "not an image by its name" in note for note in facts.notes)


def test_it_is_kept_in_the_cache_as_it_is_read(base: Path) -> None:
    files, cached = (open_split(prepare(config(cache=cache), base, build_cache=True), "train", config(), base)
                     for cache in ("off", "on"))  # fmt: skip
    assert isinstance(files, MapSplit)
    assert isinstance(cached, ArraySplit)
    for row in range(5):
        x, y = files.dataset[row]
        assert torch.equal(x, cached.x[row])
        assert torch.equal(y, cached.y[row])


def test_a_bad_file_is_named_or_skipped(base: Path) -> None:
    (base / "images" / "train" / "cat" / "a.png").write_bytes(b"cut off")
    (base / "images" / "train" / "2" / "out.png").symlink_to("/etc/hostname")
    with pytest.raises(DamagedError, match=r"'train/2/out\.png' leads outside"):
        prepare(config(), base)
    (base / "images" / "train" / "2" / "out.png").unlink()
    with pytest.raises(DamagedError, match=r"cat/a\.png is not a readable image"):
        prepare(config(), base)
    facts = prepare(config(on_bad="skip", cache="on"), base, build_cache=True)
    (row,) = open_split(facts, "train", config(on_bad="skip"), base).bad
    assert row == 2  # behind those of 10 and 2


@pytest.mark.parametrize(
    ("args", "kind", "words"),
    [
        ({"train": None}, UsageError, "data.args.train is missing"),
        ({"train": "images/none"}, UsageError, "there is no folder"),
        ({"train": "images/train/cat/deep"}, UsageError, "no folders with images"),
        ({"classes": ["10", "2"]}, DamagedError, "'cat' is none of the classes 10, 2"),
        ({"val": "images"}, DamagedError, "'train' is none of the classes"),
        ({"train": "images/hollow"}, UsageError, "images/hollow/b has no images"),
    ],
)
def test_what_is_refused(base: Path, args: dict, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        prepare(config(args=args), base)


def test_a_class_without_images_keeps_its_number_where_the_classes_are_listed(base: Path) -> None:
    facts = prepare(config(args={"train": "images/hollow", "val": None, "classes": ["a", "b", "c"]}), base)
    assert load_array(facts.train.files["y"]).tolist() == [0, 2]


def test_links_to_folders_are_followed_and_a_circle_once(base: Path) -> None:
    train = base / "images" / "train"
    write_images(base / "images" / "elsewhere", ["one.png", "within/two.png"])
    (train / "fox").mkdir()
    (train / "fox" / "more").symlink_to("../../elsewhere")
    (train / "cat" / "again").symlink_to("../cat")
    facts = prepare(config(), base)
    assert facts.class_names == ("10", "2", "cat", "fox")
    assert load_array(facts.train.files["y"]).tolist() == [0, 1, 2, 2, 2, 3, 3]
    theirs = torchvision.datasets.ImageFolder(str(train))
    assert [label for _, label in theirs if label == 3] == [3, 3]


def test_a_name_that_is_no_text_is_named(base: Path) -> None:
    (base / "images" / "train" / "cat" / "b.png").rename(f"{base}/images/train/cat/\udcff.png")
    with pytest.raises(DamagedError, match="is not in UTF-8"):
        prepare(config(), base)

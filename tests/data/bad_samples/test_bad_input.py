"""Every kind of bad input: an error that names it, or skipped alike, however samples are read."""

from __future__ import annotations

import io
import json
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lockstep.data.bad_samples.bad_samples import (
    LEDGER,
    BadSamples,
    BadSamplesNews,
    Skipping,
    most_bad,
    skipping,
)
from lockstep.data.cache.array_cache import load_array
from lockstep.data.common.errors import DamagedError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.loading.augment import augmentation
from lockstep.data.loading.feed import Feed, StepBatch, Work
from lockstep.data.loading.feed_choice import open_feed
from lockstep.data.loading.normalise import Normalisation
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import open_order, open_split
from lockstep.data.sources.splits import ArraySplit, MapSplit

N, BAD = 40, 5
CPU = torch.device("cpu")
BYTES = Normalisation(torch.float64, None, None)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def claiming(content: bytes, width: int, height: int) -> bytes:
    """A PNG whose header claims another size."""
    header = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


def bomb() -> bytes:
    """A real PNG of 32 kB, one bit for each pixel, that becomes 800 MB of colours."""
    side = 16_384
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    press = zlib.compressobj(9)
    rows = [press.compress(bytes(1 + side // 8) * 64) for _ in range(side // 64)]
    chunks = (header, b"IDAT" + b"".join([*rows, press.flush()]), b"IEND")
    parts = [struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base" / "images"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    for row in range(N):
        (folder / f"{row}.png").write_bytes(png(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)))
    (tmp_path / "outside.png").write_bytes(png(np.zeros((9, 8, 3), np.uint8)))
    return tmp_path / "base"


def write_table(base: Path, **bad: str) -> None:
    rows = [
        f"{bad.get('path', f'{row}.png')},{bad.get('label', 'a')}"
        if row == BAD
        else f"{row}.png,{'ab'[row % 2]}"
        for row in range(N)
    ]
    (base / "train.csv").write_text("path,label\n" + "\n".join(rows) + "\n")


def with_file(change: Callable[[bytes], bytes]) -> Callable[[Path], dict[str, str]]:
    def damage(base: Path) -> dict[str, str]:
        file = base / "images" / f"{BAD}.png"
        file.write_bytes(change(file.read_bytes()))
        return {}

    return damage


def named(path: str = "5.png", label: str = "a") -> Callable[[Path], dict[str, str]]:
    return lambda _: {"path": path, "label": label}


def removed(base: Path) -> dict[str, str]:
    (base / "images" / f"{BAD}.png").unlink()
    return {}


def folder_of_that_name(base: Path) -> dict[str, str]:
    (base / "images" / "folder.png").mkdir()
    return {"path": "folder.png"}


def link_out(base: Path) -> dict[str, str]:
    (base / "images" / "link.png").symlink_to(base.parent / "outside.png")
    return {"path": "link.png"}


TABLE: dict[str, tuple[Callable[[Path], dict[str, str]], str]] = {
    "corrupt": (with_file(lambda content: content[:60] + bytes(9) + content[69:]), r"5\.png is not a readable image"),
    "truncated": (with_file(lambda content: content[:90]), r"5\.png is not a readable image"),
    "missing": (removed, r"'5\.png': No such file"),
    "empty": (with_file(lambda _: b""), r"'5\.png' is empty"),
    "huge": (with_file(lambda content: claiming(content, 20_000, 13_334)), "claims far too many pixels"),
    "a bomb": (with_file(lambda _: bomb()), "claims far too many pixels|claims 16384 x 16384 pixels"),
    "large": (with_file(lambda content: claiming(content, 9_000, 9_000)), "claims 9000 x 9000 pixels"),
    "text": (with_file(lambda _: b"no picture at all"), r"5\.png is not a readable image"),
    "a page": (with_file(lambda _: b"<!DOCTYPE html><html>"), "it is an HTML file"),
    "another size": (with_file(lambda _: png(np.zeros((3, 4, 3), np.uint8))), "3 x 4 pixels"),
    "a folder": (folder_of_that_name, r"'folder\.png' is not a file"),
    "by ..": (named("../../outside.png"), "leads outside"),
    "absolute": (named("/etc/hostname"), "is absolute"),
    "NUL": (named("5\0.png"), "zero bytes|control characters"),
    "control character": (named("5\x01.png"), "control characters"),
    "link": (link_out, "leads outside"),
    "no path": (named(""), "the path is empty"),
    "no label": (named(label=""), "the label is empty"),
}  # fmt: skip
WHOLE_FILE = {"NUL"}
"""What makes the table itself unreadable."""


def config(on_bad: str, cache: str = "off", **more) -> DataConfig:
    args = {"root": "images", "train_csv": "train.csv"}
    return DataConfig(use="csv_images", args=args, cache=cache, on_bad=on_bad, max_bad=3, **more)


def read_all(settings: DataConfig, base: Path) -> None:
    """Read every sample as a training does."""
    facts = prepare(settings, base, build_cache=True)
    split = open_split(facts, "train", settings, base)
    feed = open_feed(split, BYTES, CPU, workers=0, classes=None, seed=1)
    list(feed.fetch(iter([Work(np.arange(N), [N])])))


@pytest.mark.parametrize("cache", ["off", "on"])
@pytest.mark.parametrize("kind", TABLE)
def test_it_stops_the_run_with_its_reason(base: Path, kind: str, cache: str) -> None:
    damage, reason = TABLE[kind]
    write_table(base, **damage(base))
    with pytest.raises(DamagedError, match=reason):
        read_all(config("stop", cache), base)


def feed_of(
    settings: DataConfig, base: Path, folder: Path, workers: int = 0
) -> tuple[ArraySplit | MapSplit, Feed]:
    facts = prepare(settings, base, build_cache=True)
    split = open_split(facts, "train", settings, base)
    changed = augmentation(settings.augment, 1, base)
    split = skipping(split, "train", Skipping(3, 1, folder))
    return split, open_feed(split, BYTES, CPU, workers=workers, classes=None, seed=1, augment=changed)


def batches(feed: Feed) -> list[StepBatch]:
    order = np.random.default_rng(0).permutation(N)
    work = [Work(order, [7, N - 7], epoch=0), Work(order, [N], epoch=1), Work(order[3:30], [27], 1, 3)]
    return list(feed.fetch(iter(work)))


@pytest.mark.parametrize("kind", [kind for kind in TABLE if kind not in WHOLE_FILE])
def test_it_is_skipped_alike_from_files_and_from_the_cache(base: Path, tmp_path: Path, kind: str) -> None:
    damage, reason = TABLE[kind]
    write_table(base, **damage(base))
    (from_files, one), (cached, other) = (
        feed_of(config("skip", cache, augment={"flip": True, "crop": 2}), base, tmp_path)
        for cache in ("off", "on")
    )
    assert (type(from_files), type(cached)) == (MapSplit, ArraySplit)
    rows = []
    for mine, theirs in zip(batches(one), batches(other), strict=True):
        assert mine.indices.tolist() == theirs.indices.tolist() == mine.work.indices.tolist()
        for (x, y), (x_cached, y_cached) in zip(mine.micro, theirs.micro, strict=True):
            assert torch.equal(x, x_cached)
            assert torch.equal(y, y_cached)
            rows.append(x)
    (entry,) = [json.loads(line) for line in (tmp_path / LEDGER).read_text().splitlines()]
    assert (entry["split"], entry["row"]) == ("train", BAD)
    assert re.search(reason, entry["reason"])


def test_the_bomb_is_small_and_real() -> None:
    content = bomb()
    assert len(content) < 40_000
    rows = zlib.decompressobj().decompress(content[41:], 2**26)
    assert len(rows) == 16_384 * (1 + 16_384 // 8)


def test_another_sample_takes_its_place_in_each_epoch(base: Path, tmp_path: Path) -> None:
    removed(base)
    write_table(base)
    split, feed = feed_of(config("skip"), base, tmp_path)
    assert isinstance(split, MapSplit)
    seen = []
    for epoch in range(6):
        work = Work(np.arange(N), [N], epoch=epoch)
        (x, _), good = next(feed.fetch(iter([work]))).micro[0], [row for row in range(N) if row != BAD]
        stored = [split.dataset[row][0] for row in good]
        assert all(
            torch.equal(x[row], BYTES(image[None])[0]) for row, image in zip(good, stored, strict=True)
        )
        (place,) = [
            row for row, image in zip(good, stored, strict=True) if torch.equal(BYTES(image[None])[0], x[BAD])
        ]
        seen.append(place)
    assert len(set(seen)) > 3


def test_workers_and_parts_replace_alike(base: Path, tmp_path: Path) -> None:
    removed(base)
    (base / "images" / "17.png").write_bytes(b"GIF87a")
    write_table(base)
    whole = batches(feed_of(config("skip"), base, tmp_path)[1])
    worked = batches(feed_of(config("skip"), base, tmp_path, workers=2)[1])
    for one, other in zip(whole, worked, strict=True):
        assert all(torch.equal(x, z) for (x, _), (z, _) in zip(one.micro, other.micro, strict=True))
    assert torch.equal(whole[1].micro[0][0][3:30], whole[2].micro[0][0])
    assert len((tmp_path / LEDGER).read_text().splitlines()) == 2


@pytest.mark.parametrize("cache", ["off", "on"])
def test_evaluation_leaves_it_out(base: Path, tmp_path: Path, cache: str) -> None:
    removed(base)
    write_table(base)
    _, feed = feed_of(config("skip", cache), base, tmp_path)
    work = Work(np.arange(3, 8), [2, 1, 2], leave_out=True)
    (batch,) = feed.fetch(iter([work]))
    assert (batch.indices.tolist(), list(batch.left_out), list(batch.sizes)) == (
        [3, 4, 6, 7],
        [0, 1, 0],
        [2, 0, 2],
    )
    assert [len(x) for x, _ in batch.micro] == [2, 1, 2]
    (untouched,) = feed.fetch(iter([Work(np.arange(3), [3], leave_out=True)]))
    assert (list(untouched.sizes), untouched.left_out) == ([3], ())


@pytest.mark.parametrize("cache", ["off", "on"])
def test_more_than_max_bad_stop_the_run(base: Path, tmp_path: Path, cache: str) -> None:
    for row in (5, 6, 8, 9):
        (base / "images" / f"{row}.png").write_bytes(b"GIF")
    write_table(base)
    with pytest.raises(DamagedError, match=r"4 of 40 samples of train are bad, .* allows 3:\n.*[5689]\.png"):
        batches(feed_of(config("skip", cache), base, tmp_path)[1])


def test_the_cache_of_a_run_that_skipped_stops_one_that_does_not(base: Path) -> None:
    (base / "images" / "5.png").write_bytes((base / "images" / "5.png").read_bytes()[:90])
    write_table(base)
    facts = prepare(config("skip", "on"), base, build_cache=True)
    assert [note for note in facts.notes if "1 of 40 samples of train.csv is bad and skipped" in note]
    with pytest.raises(DamagedError, match=r"5\.png is not a readable image"):
        prepare(config("stop", "on"), base, build_cache=True)


def test_a_repaired_file_is_read_again(base: Path) -> None:
    content = (base / "images" / "5.png").read_bytes()
    (base / "images" / "5.png").write_bytes(content[:90])
    write_table(base)
    prepare(config("skip", "on"), base, build_cache=True)
    (base / "images" / "5.png").write_bytes(content)
    assert "bad" not in prepare(config("skip", "on"), base, build_cache=True).train.files


def test_the_ledger_is_one_for_all_processes_and_attempts(tmp_path: Path) -> None:
    file = tmp_path / LEDGER
    one, other, val = (BadSamples(split, 10, 2, 0, file) for split in ("train", "train", "val"))
    for bad in (one, other, one):
        bad.note(3, "cannot be read")
    val.note(3, "is a hole")
    one.note(4, "is empty")
    other.note(3, "cannot be read")
    with pytest.raises(DamagedError, match="3 of 10 samples of train"):
        other.note(7, "is a folder")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["split"], line["row"]) for line in lines] == [
        ("train", 3),
        ("val", 3),
        ("train", 4),
        ("train", 7),
    ]


@pytest.mark.parametrize(("limit", "samples", "most"), [(0.01, 1000, 10), (0.01, 7, 1), (1, 7, 1), (5, 7, 5)])
def test_a_limit_is_a_share_or_a_number(limit: float, samples: int, most: int) -> None:
    assert most_bad(limit, samples) == most


def test_replacements_are_spread_over_the_set() -> None:
    bad = BadSamples("train", 8, 8, seed=0, file=None)
    counts = np.bincount([bad.place(epoch, 5, 0) for epoch in range(4000)], minlength=8)
    assert ((counts - 500) ** 2 / 500).sum() < 24.3  # of seven degrees of freedom, once in a thousand times


@pytest.mark.parametrize(
    ("more", "words"),
    [({"max_bad": 0}, "greater than 0"), ({"max_bad": 2.5}, "neither a share"),
     ({"on_bad": "skip", "pad": {}}, "pad to a fixed length")],
)  # fmt: skip
def test_settings_that_make_no_sense(more: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DataConfig(**more)


def test_counts_and_balance_are_of_the_samples_that_can_be_read(base: Path) -> None:
    write_table(base, label="")
    settings = config("skip", "on", val_size=8, balance="classes")
    facts = prepare(settings, base, build_cache=True)
    trained = load_array(str(facts.train.subset)).tolist()
    assert BAD in trained
    assert facts.train.class_counts == tuple(
        sum(row % 2 == label and row != BAD for row in trained) for label in (0, 1)
    )
    order = open_order(facts, settings, base)
    drawn = np.unique(order.indices(np.arange(order.n), 3, 0))
    assert trained.index(BAD) not in drawn


def test_the_same_samples_are_the_same_data_wherever_they_lie(base: Path, tmp_path: Path) -> None:
    removed(base)
    write_table(base, label="")
    (base / "images" / "9.png").write_bytes(b"cut off")
    shutil.copytree(base, tmp_path / "moved")
    one, other = (prepare(config("skip", "on"), at, build_cache=True) for at in (base, tmp_path / "moved"))
    assert one.fingerprint == other.fingerprint
    (tmp_path / "moved" / "images" / "11.png").unlink()
    assert prepare(config("skip", "on"), tmp_path / "moved", build_cache=True).fingerprint != one.fingerprint


def test_a_line_of_the_ledger_that_was_cut_off_is_stepped_over(tmp_path: Path) -> None:
    file = tmp_path / LEDGER
    BadSamples("train", 10, 5, 0, file).note(3, "cannot be read")
    whole = file.read_bytes()
    file.write_bytes(whole + whole[: len(whole) // 2])
    news = BadSamplesNews(tmp_path)
    bad = BadSamples("train", 10, 5, 0, file)
    bad.note(4, "is empty")
    bad.note(3, "is empty")
    assert "1 more bad sample was skipped, 2 in all, such as is empty" in (news.message() or "")
    lines = file.read_bytes().splitlines()
    assert len(lines) == 3
    assert lines[0] == whole.strip()
    assert json.loads(lines[2])["row"] == 4

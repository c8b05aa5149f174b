"""Decoded images in the cache: the same to the bit as the files, built once, whatever interrupts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lockstep.data.cache import entry_use
from lockstep.data.cache.array_cache import load_array, partial_folder
from lockstep.data.cache.cache_list import list_entries, remove_entry
from lockstep.data.common.errors import DamagedError, MachineError, UsageError
from lockstep.data.config.data_config import DataConfig
from lockstep.data.config.dataset_info import DatasetInfo
from lockstep.data.images import decode_processes, decoded_file, image_cache
from lockstep.data.images.decode_chunk import decode_chunk
from lockstep.data.images.decoded_file import DecodedFile
from lockstep.data.loading.augment import augmentation
from lockstep.data.loading.feed import Work
from lockstep.data.loading.feed_choice import open_feed
from lockstep.data.loading.normalise import build_normalisation
from lockstep.data.prepare import prepare
from lockstep.data.sets.source_list import image_split, open_split
from lockstep.data.sources.splits import ArraySplit, MapSplit

N = 40


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Colour JPEGs of several sizes, one on its side, and grey PNGs."""
    rng = np.random.default_rng(3)
    folder = tmp_path / "base"
    folder.mkdir()
    rows = []
    for row in range(N):
        high, wide = 6 + row % 3, 8 + row % 2
        pixels = rng.integers(0, 256, (high, wide, 3), dtype=np.uint8)
        name = f"{row}.png" if row % 5 == 0 else f"{row}.jpg"
        image = Image.fromarray(pixels[:, :, 0] if row % 5 == 0 else pixels)
        exif = Image.Exif()
        exif[0x0112] = 6 if row == 7 else 1
        image.save(folder / name, exif=exif)
        rows.append(f"{name},{'ab'[row % 2]}")
    (folder / "train.csv").write_text("\n".join(["path,label", *rows[:30]]))
    (folder / "val.csv").write_text("\n".join(["path,label", *rows[30:]]))
    return folder


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded_file, "_MOST_ROWS", 4)


def config(cache: str = "auto", **more) -> DataConfig:
    args = {"root": ".", "train_csv": "train.csv", "size": [7, 9]} | more.pop("args", {})
    return DataConfig(use="csv_images", args=args, cache=cache, **more)


def split_of(facts: DatasetInfo, which: str, settings: DataConfig, base: Path) -> MapSplit:
    """Read the files, whatever is in the cache."""
    info = facts.split(which)
    assert info is not None
    files = {role: path for role, path in info.files.items() if role != "x"}
    split = open_split(replace(facts, **{which: replace(info, files=files)}), which, settings, base)
    assert isinstance(split, MapSplit)
    return split


@pytest.mark.parametrize("more", [{}, {"args": {"val_csv": "val.csv"}}, {"val_size": 11}])
def test_decoded_images_are_those_of_the_files_to_the_bit(base: Path, more: dict) -> None:
    settings = config(**more)
    files = prepare(settings, base)
    facts = prepare(settings, base, build_cache=True)
    assert (facts.fingerprint, facts.look, facts.notes) == (files.fingerprint, files.look, files.notes)
    assert DatasetInfo.from_json(facts.to_json()) == facts
    for which in ("train", "val") if more else ("train",):
        cached, read = open_split(facts, which, settings, base), split_of(facts, which, settings, base)
        assert isinstance(cached, ArraySplit)
        assert (cached.subset is None) == (read.subset is None)
        for row in range(len(read.dataset)):
            x, y = read.dataset[row]
            assert torch.equal(x, cached.x[row])
            assert torch.equal(y, cached.y[row])


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_files_to_the_bit(base: Path, workers: int) -> None:
    """Whether one gather serves several steps, or workers read sample by sample: augmentation included."""
    steps = [{"use": "random_resized_crop"}, {"use": "rand_augment"}, {"use": "torchvision.transforms.v2:RandomCrop",
             "args": {"size": 5}}]  # fmt: skip
    settings = config(val_size=7, augment={"crop": 2, "flip": True, "steps": steps})
    facts = prepare(settings, base, build_cache=True)
    device = torch.device("cpu")
    normalise = build_normalisation(facts, torch.float32, device)
    work = [Work(np.array([5, 0, 21, 3]), [3, 1], epoch=e) for e in (0, 0, 1)]
    feeds = [
        open_feed(s, normalise, device, workers=workers, classes=2, seed=5, prefetch=True,
                  augment=augmentation(settings.augment, 5, base))
        for s in (open_split(facts, "train", settings, base), split_of(facts, "train", settings, base))
    ]  # fmt: skip
    for one, other in zip(*(feed.fetch(iter(work)) for feed in feeds), strict=True):
        assert one.indices.tolist() == other.indices.tolist()
        for (x, y), (x_read, y_read) in zip(one.micro, other.micro, strict=True):
            assert torch.equal(x, x_read)
            assert torch.equal(y, y_read)


def test_it_is_decoded_once_and_again_when_a_file_changes(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config()
    first = prepare(settings, base, build_cache=True)
    with monkeypatch.context() as patch:
        patch.setattr(image_cache, "decode_chunks", lambda *_: pytest.fail("decoded again"))
        assert prepare(settings, base, build_cache=True) == first
        assert prepare(settings, base).train.files == first.train.files
    assert "images: decoded once, " in first.reading
    with Image.open(base / "3.jpg") as image:
        changed = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    changed.save(base / "3.jpg")
    second = prepare(settings, base, build_cache=True)
    assert second.train.files["x"] != first.train.files["x"]
    with Image.open(base / "1.jpg") as image:
        image.save(base / "train.jpg")
    assert not (load_array(second.train.files["x"])[3] == load_array(first.train.files["x"])[3]).all()


def test_other_settings_have_another_file(base: Path) -> None:
    files = {
        prepare(config(args=args), base, build_cache=True).train.files["x"]
        for args in ({}, {"size": [5, 5]}, {"mode": "L"}, {"size": [5, 5], "mode": "L"})
    }
    assert len(files) == 4


def test_only_a_training_decodes(base: Path) -> None:
    facts = prepare(config(), base)
    assert "x" not in facts.train.files
    assert facts.reading == "images: a training decodes them once, into 5.54 KiB of the cache"
    assert [entry.name for entry in list_entries() if entry.name.startswith("images-")] == []


def test_off_reads_the_files(base: Path) -> None:
    prepare(config(), base, build_cache=True)
    facts = prepare(config(cache="off"), base, build_cache=True)
    assert "x" not in facts.train.files
    assert facts.reading == "images: decoded anew in every epoch: data.cache=off"


def test_processes_decode_the_same(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = load_array(prepare(config(), base, build_cache=True).train.files["x"]).copy()
    monkeypatch.setenv("LOCKSTEP_CACHE", os.environ["LOCKSTEP_CACHE"] + "-2")
    monkeypatch.setattr(decode_processes, "_ALONE_SECONDS", -1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    facts = prepare(config(), base, build_cache=True)
    assert (load_array(facts.train.files["x"]) == alone).all()


class _Interruption(BaseException):
    pass


def interrupt(monkeypatch: pytest.MonkeyPatch, base: Path, after: int) -> None:
    """End a build, as an interrupt does, once some chunks are done."""
    done: list[int] = []

    def decode(*args):
        if len(done) == after:
            raise _Interruption
        done.append(args[2])
        return decode_chunk(*args)

    with monkeypatch.context() as patch:
        patch.setattr(decode_processes, "decode_chunk", decode)
        with pytest.raises(_Interruption):
            prepare(config(), base, build_cache=True)


def decoded_chunks(monkeypatch: pytest.MonkeyPatch, base: Path) -> tuple[DatasetInfo, list[int]]:
    """Build; say which chunks were decoded for it."""
    done: list[int] = []

    def decode(*args):
        done.append(args[2])
        return decode_chunk(*args)

    with monkeypatch.context() as patch:
        patch.setattr(decode_processes, "decode_chunk", decode)
        return prepare(config(), base, build_cache=True), done


def assert_right(facts: DatasetInfo, base: Path) -> None:
    x, read = load_array(facts.train.files["x"]), split_of(facts, "train", config(), base).dataset
    assert all((x[row] == read[row][0].numpy()).all() for row in range(len(read)))


def key_of(base: Path) -> str:
    split = image_split(prepare(config(), base), "train", config(), base)
    assert split is not None
    return image_cache.entry_of(split)


def test_an_interrupted_build_goes_on(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, base, after=3)
    (entry,) = (entry for entry in list_entries() if not entry.is_whole)
    assert entry.name == key_of(base)
    facts, done = decoded_chunks(monkeypatch, base)
    assert done == [3, 4, 5, 6, 7]
    assert_right(facts, base)
    assert not partial_folder(entry.name).exists()
    assert sorted(path.name for path in Path(facts.train.files["x"]).parent.iterdir()) == [
        "facts.json",
        "x.npy",
    ]


def tear_line(folder: Path) -> None:
    journal = folder / "chunks.jsonl"
    journal.write_text(journal.read_text()[:-9])


def tear_pixels(folder: Path) -> None:
    content = bytearray((folder / "x.npy").read_bytes())
    content[128 + 9 * 189] ^= 1  # of chunk 2
    (folder / "x.npy").write_bytes(content)


def tear_length(folder: Path) -> None:
    os.truncate(folder / "x.npy", 1000)


def tear_journal(folder: Path) -> None:
    (folder / "chunks.jsonl").write_bytes(b"\0" * 80 + b'\n{"chunk": 99, "crc": 0, "bad": []}\n[]\n')


@pytest.mark.parametrize(
    ("tear", "again"),
    [
        (tear_line, [2, 3, 4, 5, 6, 7]),
        (tear_pixels, [2, 3, 4, 5, 6, 7]),
        (tear_length, list(range(8))),
        (tear_journal, list(range(8))),
    ],
)
def test_what_a_power_cut_leaves_is_decoded_again(
    base: Path, monkeypatch: pytest.MonkeyPatch, tear, again
) -> None:
    interrupt(monkeypatch, base, after=3)
    tear(partial_folder(key_of(base)))
    facts, done = decoded_chunks(monkeypatch, base)
    assert done == again
    assert_right(facts, base)


def test_a_killed_build_goes_on_and_leaves_no_process(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from lockstep.data.images import decode_processes, decoded_file, image_cache\n"
        "from lockstep.data.prepare import prepare\nfrom lockstep.data.config import DataConfig\n"
        "decoded_file._MOST_ROWS = 4\ndecode_processes._ALONE_SECONDS = -1\n"
        "def step(self):\n    print('done', flush=True); time.sleep(60)\nimage_cache._Progress.step = step\n"
        f"prepare(DataConfig.model_validate({config().model_dump()!r}), Path({str(base)!r}), build_cache=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "done\n"
        processes = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
        found = {path.name for path in processes if _is_child(path, child.pid)}
        assert found
        child.kill()
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in found):
        assert time.monotonic() < until
        time.sleep(0.05)
    facts, done = decoded_chunks(monkeypatch, base)
    assert 0 < len(done) < 8
    assert_right(facts, base)


def _is_child(process: Path, parent: int) -> bool:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1]) == parent
    except OSError:
        return False


def test_a_process_that_dies_is_told(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_processes, "_ALONE_SECONDS", -1)
    start = decode_processes._start

    def killed(*args):
        child = start(*args)
        child.kill()
        child.wait()
        return child

    monkeypatch.setattr(decode_processes, "_start", killed)
    with pytest.raises(
        MachineError, match=r"a process that decodes images ended with status -9 in chunk \d"
    ) as caught:
        prepare(config(cache="on"), base, build_cache=True)
    assert "data.cache=off" in caught.value.hint


@pytest.mark.parametrize("alone", [100.0, -1.0])
def test_a_bad_image_is_named_and_nothing_is_kept_of_its_chunk(
    base: Path, monkeypatch: pytest.MonkeyPatch, alone: float
) -> None:
    monkeypatch.setattr(decode_processes, "_ALONE_SECONDS", alone)
    content = (base / "13.jpg").read_bytes()
    (base / "13.jpg").write_bytes(content[:-20])  # its header is whole
    with pytest.raises(DamagedError, match=r"13\.jpg is not a readable image.*\(row 13 of train\.csv\)"):
        prepare(config(), base, build_cache=True)
    assert [entry for entry in list_entries() if entry.is_whole and entry.name.startswith("images-")] == []


def test_too_large_a_set_is_refused_or_read_from_its_files(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "free_bytes", lambda _: 5_000)
    with pytest.raises(
        MachineError, match=r"data.cache: the decoded images take 5.54 KiB, more than the 4.88 KiB"
    ):
        prepare(config(cache="on"), base, build_cache=True)
    monkeypatch.setattr(image_cache, "free_bytes", lambda _: 9_000)
    facts = prepare(config(), base, build_cache=True)
    assert "x" not in facts.train.files
    assert (
        "anew in every epoch: the decoded images take 5.54 KiB, more than half of the 8.79 KiB"
        in facts.reading
    )
    assert "x" in prepare(config(cache="on"), base, build_cache=True).train.files
    assert "x" in prepare(config(), base, build_cache=True).train.files  # it is there: it needs no room


def test_more_than_half_of_the_memory_is_taken_only_if_asked(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "memory_bytes", lambda: 9_000)
    assert (
        "more than half of this machine's memory of 8.79 KiB"
        in prepare(config(), base, build_cache=True).reading
    )
    assert "x" in prepare(config(cache="on"), base, build_cache=True).train.files


def test_a_disk_that_fills_up_is_told_and_gets_its_room_back(base: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse the write in the middle of the file, as a full disk does."""
    code = (
        "import resource, signal, sys, os\nfrom pathlib import Path\nfrom lockstep.data.images import decoded_file\n"
        "from lockstep.data.prepare import prepare\nfrom lockstep.data.config import DataConfig\n"
        "from lockstep.data.common import LockstepError\nfrom lockstep.data.cache import array_cache\n"
        "decoded_file._MOST_ROWS = 4\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"settings, base = {config().model_dump()!r}, Path({str(base)!r})\n"
        "prepare(DataConfig.model_validate(settings), base)\n"
        "create = decoded_file.DecodedFile.create\n"
        "def limited(self):\n    create(self); resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "decoded_file.DecodedFile.create = limited\n"
        "print(prepare(DataConfig.model_validate(settings), base, build_cache=True).reading)\n"
        "try:\n    prepare(DataConfig.model_validate({**settings, 'cache': 'on'}), base, build_cache=True)\n"
        "except LockstepError as error:\n    print(type(error).__name__, error.message)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    first, second = out.splitlines()
    cache = os.environ["LOCKSTEP_CACHE"]
    assert (
        first
        == f"images: decoded anew in every epoch: the cache of array files {cache} is full: File too large"
    )
    assert second == f"MachineError the cache of array files {cache} is full: File too large"
    assert not partial_folder(key_of(base)).exists()


def test_arrays_are_not_cached_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"data.cache: tensors is not a set of image files"):
        prepare(DataConfig(use="tensors", cache="on"), tmp_path)


def test_on_and_off_are_words_in_yaml() -> None:
    assert [DataConfig.model_validate({"cache": value}).cache for value in (True, False, "on", "off", "auto")] == [
        "on", "off", "on", "off", "auto",
    ]  # fmt: skip


def test_a_used_entry_stays(base: Path) -> None:
    facts = prepare(config(), base, build_cache=True)
    code = (
        "import sys\nfrom lockstep.data.cache import load_array\n"
        "x = load_array(sys.argv[1])\nprint('mapped', flush=True)\nsys.stdin.read()\n"
    )
    held = entry_use._held
    for descriptor in held.values():
        os.close(descriptor)
    held.clear()
    command = [sys.executable, "-c", code, facts.train.files["x"]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "mapped\n"
        (entry,) = (entry for entry in list_entries() if entry.name.startswith("images-"))
        assert (entry.in_use, entry.is_whole) == (True, True)
        assert entry.about == f"30 images of {base}, 3 x 7 x 9"
        assert not remove_entry(entry.name)
        assert Path(facts.train.files["x"]).exists()
        child.communicate("")
    assert remove_entry(entry.name)
    assert not Path(facts.train.files["x"]).parent.exists()
    assert_right(prepare(config(), base, build_cache=True), base)


def test_an_interrupted_build_can_be_removed(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(monkeypatch, base, after=2)
    (entry,) = (entry for entry in list_entries() if not entry.is_whole)
    assert remove_entry(entry.name)
    assert not partial_folder(entry.name).exists()


def test_a_chunk_is_at_its_place(tmp_path: Path) -> None:
    file = DecodedFile(tmp_path, 10, (1, 2, 3))
    file.create()
    pixels = np.arange(60, dtype=np.uint8).reshape(10, 1, 2, 3)
    for chunk in (2, 0, 1):
        file.write(chunk, pixels[list(file.rows(chunk))])
    assert (load_array(tmp_path / "x.npy") == pixels).all()

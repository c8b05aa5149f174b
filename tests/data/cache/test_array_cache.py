from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from lockstep.data.cache import array_cache
from lockstep.data.common.errors import DamagedError, MachineError
from tests.helpers.dataset_files import files_below


def build(folder: Path) -> dict:
    array_cache.save_array(folder / "a.npy", np.arange(1000))
    return {"n": 1000}


def run(code: str, *args: str) -> subprocess.Popen[str]:
    prelude = "import sys, time\nimport numpy as np\nfrom lockstep.data.cache import array_cache\n"
    return subprocess.Popen([sys.executable, "-c", prelude + code, *args], stdout=subprocess.PIPE, text=True)


def test_root_is_chosen_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCKSTEP_CACHE", "/somewhere")
    assert array_cache.cache_root() == Path("/somewhere")
    monkeypatch.delenv("LOCKSTEP_CACHE")
    monkeypatch.setenv("HOME", "/home/x")
    assert array_cache.cache_root() == Path("/home/x/.cache/lockstep/arrays")


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64", "bool"])
@pytest.mark.parametrize("shape", [(7,), (3, 1, 4), (0,), (2, 0)])
def test_arrays_survive(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    array_cache.save_array(tmp_path / "a.npy", array)
    assert (np.load(tmp_path / "a.npy") == array).all()
    found = array_cache.load_array(tmp_path / "a.npy")
    assert (found == array).all()
    assert (found.dtype, found.shape) == (array.dtype, array.shape)


def test_a_transposed_array_is_written_in_order(tmp_path: Path) -> None:
    array = np.arange(12).reshape(3, 4).T
    array_cache.save_array(tmp_path / "a.npy", array)
    assert (array_cache.load_array(tmp_path / "a.npy") == array).all()


def test_maps_are_private_and_torch_does_not_warn(tmp_path: Path) -> None:
    array_cache.save_array(tmp_path / "a.npy", np.zeros(10, np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = torch.from_numpy(array_cache.load_array(tmp_path / "a.npy"))
    tensor[0] = 9
    assert array_cache.load_array(tmp_path / "a.npy")[0] == 0


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    first = array_cache.cached("key", build)
    second = array_cache.cached("key", lambda _: pytest.fail("built again"))
    assert first == second
    assert first.facts == {"n": 1000}
    assert list(first.hashes) == ["a.npy"]
    assert files_below(tmp_path / "cache") == ["key/a.npy", "key/facts.json"]


def damage_short(folder: Path) -> None:
    os.truncate(folder / "a.npy", 100)


def damage_same_size(folder: Path) -> None:
    content = bytearray((folder / "a.npy").read_bytes())
    content[500] ^= 1
    (folder / "a.npy").write_bytes(content)
    os.utime(folder / "a.npy", ns=(1, 1))


def damage_missing(folder: Path) -> None:
    (folder / "a.npy").unlink()


def damage_no_facts(folder: Path) -> None:
    (folder / "facts.json").unlink()


def damage_half_facts(folder: Path) -> None:
    os.truncate(folder / "facts.json", 20)


def damage_odd_facts(folder: Path) -> None:
    (folder / "facts.json").write_text(json.dumps(["x"]))


@pytest.mark.parametrize(
    "damage",
    [damage_short, damage_same_size, damage_missing, damage_no_facts, damage_half_facts, damage_odd_facts],
)
def test_a_damaged_entry_is_built_again(damage, tmp_path: Path) -> None:
    entry = array_cache.cached("key", build)
    damage(entry.folder)
    again = array_cache.cached("key", build)
    assert again.hashes == entry.hashes
    assert (array_cache.load_array(again.folder / "a.npy") == np.arange(1000)).all()
    assert files_below(tmp_path / "cache") == ["key/a.npy", "key/facts.json"]


def test_a_copied_cache_is_not_built_again() -> None:
    entry = array_cache.cached("key", build)
    os.utime(entry.folder / "a.npy", ns=(1, 1))
    assert array_cache.cached("key", lambda _: pytest.fail("built again")).hashes == entry.hashes


def test_a_builder_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def fails(folder: Path) -> dict:
        build(folder)
        raise DamagedError("no")

    with pytest.raises(DamagedError):
        array_cache.cached("key", fails)
    assert files_below(tmp_path / "cache") == []
    assert array_cache.cached("key", build).facts == {"n": 1000}


def test_processes_at_the_same_time_build_once(tmp_path: Path) -> None:
    code = """
def build(folder):
    with open(sys.argv[1], "a") as log:
        log.write("built\\n")
    time.sleep(0.5)
    array_cache.save_array(folder / "a.npy", np.arange(5))
    return {}
print(array_cache.cached("key", build).folder)
"""
    log = tmp_path / "log"
    processes = [run(code, str(log)) for _ in range(4)]
    folders = {process.communicate(timeout=100)[0].strip() for process in processes}
    assert folders == {str(tmp_path / "cache" / "key")}
    assert log.read_text() == "built\n"


def test_a_killed_builder_holds_nobody_up_and_is_swept_away(tmp_path: Path) -> None:
    code = """
def build(folder):
    array_cache.save_array(folder / "a.npy", np.arange(5))
    print("half", flush=True)
    time.sleep(1000)
array_cache.cached("key", build)
"""
    process = run(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(files_below(tmp_path / "cache")) == 1
    array_cache.cached("key", build)
    assert files_below(tmp_path / "cache") == ["key/a.npy", "key/facts.json"]


def test_a_file_that_does_not_fit_is_an_error_for_people(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse the write, as a full disk does."""
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
def build(folder):
    array_cache.save_array(folder / "a.npy", np.zeros(100_000))
    return {}
try:
    array_cache.cached("key", build)
except array_cache.MachineError as error:
    print(error.message, "|", error.hint)
"""
    out, _ = run(code).communicate(timeout=100)
    assert f"the cache of array files {tmp_path / 'cache'} is full" in out
    assert "set LOCKSTEP_CACHE" in out
    assert files_below(tmp_path / "cache") == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_says_full(number: int) -> None:
    def fails(folder: Path) -> dict:
        raise OSError(number, os.strerror(number), str(folder))

    with pytest.raises(MachineError, match="is full"):
        array_cache.cached("key", fails)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LOCKSTEP_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(MachineError) as caught:
        array_cache.cached("key", build)
    assert "cannot be written: Not a directory" in caught.value.message
    assert "LOCKSTEP_CACHE" in caught.value.hint
    assert caught.value.exit_status == 3


def test_a_whole_entry_is_read_without_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = array_cache.cached("key", build)
    before = entry.folder.parent.stat().st_mtime_ns, time.time()
    monkeypatch.setattr(array_cache, "_entry_lock", lambda *_: pytest.fail("wanted to write"))
    assert array_cache.cached("key", build) == entry
    assert entry.folder.parent.stat().st_mtime_ns == before[0]


@pytest.mark.parametrize("content", [None, b"", b"no array"])
def test_files_that_are_no_arrays(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "entry" / "a.npy"
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DamagedError) as caught:
        array_cache.load_array(path)
    assert str(path) in caught.value.message
    assert str(path.parent) in caught.value.hint


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DamagedError):
        array_cache.load_array(tmp_path / "a.npy")

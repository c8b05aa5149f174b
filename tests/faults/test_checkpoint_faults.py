"""Whatever happens while a checkpoint is written, the old or the new one loads; what is damaged is refused by name."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.data.common.atomic_files import write_json
from lockstep.data.common.errors import DamagedError, MachineError
from lockstep.launcher.failures.attempt_end import AttemptEnd
from lockstep.launcher.failures.root_cause import diagnose_failure
from lockstep.training.checkpoint.layout import list_checkpoints
from lockstep.training.checkpoint.manifest import _with_checksum
from lockstep.training.checkpoint.storage import open_newest, read_checkpoint, write_checkpoint
from lockstep.training.rank.error_report import known
from lockstep.training.rank.fencing_token import take_ownership
from lockstep.training.tracking.event_log import read_events
from lockstep.training.tracking.rewinding import rewind
from tests.helpers.launch import Launch, job_server
from tests.helpers.programs.checkpoint_writer import snapshot, writer

STRACED = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
Ask = Callable[[dict[str, Any]], list[Any]]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    with job_server("checkpoint_writer") as server:
        yield server.ask


def _loads(folder: Path) -> int:
    """The step of the newest checkpoint that loads, all of whose values are of that step."""
    _, found, _ = open_newest(folder / "checkpoints")
    step = found.state["step"]
    for name, part in snapshot(step).parts.items():
        for key, tensor in part.items():
            assert torch.equal(getattr(found, name)[key].whole(), tensor), (name, key)
    return step


def _calls(ask: Ask, folder: Path) -> list[tuple[str, int]]:
    """Every system call of writing a checkpoint as (name, how many of that name there were before, and itself)."""
    folder.mkdir()
    trace = folder / "trace"
    assert ask({"folder": str(folder), "strace": ["-o", str(trace)]})[0] == 0
    names = re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE)
    names = names[names.index("statfs") - 3 : names.index("exit_group") if "exit_group" in names else None]
    counts: dict[str, int] = {}
    every = re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE)
    points = []
    for name in every:
        counts[name] = counts.get(name, 0) + 1
        if name in names and name not in ("exit_group", "getpid"):
            points.append((name, counts[name]))
    return points


def _kill_at(ask: Ask, folder: Path, name: str, number: int) -> int:
    folder.mkdir()
    inject = f"inject={name}:signal=KILL:when={number}"
    status, words = ask({"folder": str(folder), "strace": ["-o", "/dev/null", "-e", inject]})
    assert status == -signal.SIGKILL, words
    step = _loads(folder)
    with writer(folder) as one:  # the next attempt clears up and goes on
        one.open()
        one.write(snapshot(3), set())
        one.finish()
    assert _loads(folder) == 3
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step_00000003"]
    return step


@STRACED
def test_killed_at_some_system_calls_of_a_checkpoint(ask: Ask, tmp_path: Path) -> None:
    points = _calls(ask, tmp_path / "whole")
    assert len(points) > 80
    draw = random.Random(20)
    chosen = [*draw.sample(points, 6), next(p for p in points if p[0] == "rename"), points[-1]]
    steps = [_kill_at(ask, tmp_path / str(at), *point) for at, point in enumerate(chosen)]
    assert set(steps) == {1, 2}


@STRACED
@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_killed_at_every_system_call_of_a_checkpoint(ask: Ask, tmp_path: Path) -> None:
    points = _calls(ask, tmp_path / "whole")
    steps = [_kill_at(ask, tmp_path / str(at), *point) for at, point in enumerate(points)]
    assert steps == sorted(steps), "once the new one loads, it does not go away again"
    assert set(steps) == {1, 2}


def _random_kills(ask: Ask, tmp_path: Path, count: int) -> None:
    draw = random.Random(count)
    for number in range(count):
        folder = tmp_path / str(number)
        folder.mkdir()
        status, words = ask({"folder": str(folder), "steps": 10_000, "seconds": draw.uniform(0.05, 0.4)})
        assert status == -signal.SIGKILL, words
        committed = [e["step"] for e in read_events(folder / "metrics.jsonl") if e["event"] == "checkpoint"]
        if committed:
            assert _loads(folder) >= committed[-1]


def test_killed_at_random_times(ask: Ask, tmp_path: Path) -> None:
    _random_kills(ask, tmp_path, 8)


@pytest.mark.exhaustive
def test_killed_at_fifty_random_times(ask: Ask, tmp_path: Path) -> None:
    _random_kills(ask, tmp_path, 50)


@STRACED
@pytest.mark.parametrize(
    ("call", "number", "code", "words"),
    [
        ("write", 2, "ENOSPC", "No space left on device"),
        ("write", 5, "EDQUOT", "Disk quota exceeded"),
        ("fsync", 3, "EIO", "Input/output error"),
        ("mkdir", 2, "EROFS", "Read-only file system"),
        ("rename", 1, "EIO", "Input/output error"),
    ],
)
def test_an_error_of_the_disk_leaves_the_old_one_and_no_rest(
    ask: Ask, tmp_path: Path, call: str, number: int, code: str, words: str
) -> None:
    inject = f"inject={call}:error={code}:when={number}"
    status, said = ask({"folder": str(tmp_path), "strace": ["-o", "/dev/null", "-e", inject]})
    assert status == 1
    assert said.startswith("MachineError")
    assert "the checkpoint of step 2 cannot be written" in said
    assert words in said
    assert _loads(tmp_path) == 1
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_00000001"]
    warnings = [e for e in read_events(tmp_path / "metrics.jsonl") if e["event"] == "checkpoint_failed"]
    assert len(warnings) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A run's folder whose checkpoints lie on a file system of 500 KiB: one checkpoint and a half."""
    disk = tmp_path / "checkpoints"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", disk], check=True)
    yield tmp_path
    subprocess.run(["umount", disk], check=True)


@AS_ROOT
def test_on_a_full_disk_training_goes_on_with_one_warning(small_disk: Path) -> None:
    with writer(small_disk) as one:
        for step in range(1, 5):  # each returns, whatever becomes of it
            one.write(snapshot(step), set())
        with pytest.raises(
            MachineError, match=r"the checkpoint of step 4 cannot be written: .* MB are needed"
        ):
            one.finish()
    assert _loads(small_disk) == 1
    assert [path.name for path in (small_disk / "checkpoints").iterdir()] == ["step_00000001"]
    events = [event["event"] for event in read_events(small_disk / "metrics.jsonl")]
    assert events.count("checkpoint_failed") == 1


@AS_ROOT
def test_what_the_disk_has_no_room_for_is_not_begun(small_disk: Path) -> None:
    (small_disk / "checkpoints" / "filler").write_bytes(bytes(400_000))
    with pytest.raises(OSError, match=r"0\.3 MB are needed and 0\.1 MB are free"):
        write_checkpoint(small_disk / "checkpoints", snapshot(1))


@AS_ROOT
def test_a_full_disk_under_the_run_folders_is_named_with_its_room(
    launch: Launch, own: Path, small_disk: Path
) -> None:
    disk = small_disk / "checkpoints"
    arguments = ("own.yaml", "train.max_steps=3", "--cpu", "1", "--name", "run")
    assert launch("train", *arguments, cwd=own, env={"LOCKSTEP_RUNS": str(disk)}).status == 0
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4096))
    before = sorted(disk.rglob("*"))
    for command in (("resume", "run", "train.max_steps=5"), ("eval", "run"), ("train", "own.yaml")):
        full = launch(*command, "--cpu", "1", cwd=own, env={"LOCKSTEP_RUNS": str(disk)})
        assert "make room there" in full.err
        assert full.status == 3, full.err
        who = "rank 0 of 1: " if command[0] == "eval" else ""  # which can say it all the same
        assert re.search(rf"error: {who}{disk}/\S+ cannot be written: No space left on device", full.err)
        assert f"0.0 of 0.5 MB are free in {disk}" in full.err
        after = [path for path in disk.rglob("*") if "attempt-" not in str(path) and "eval-" not in str(path)]
        assert set(after) <= set(before), "a file that could not be written is left"


@AS_ROOT
def test_of_a_rank_that_ended_without_a_word_a_full_disk_is_told(small_disk: Path) -> None:
    disk = small_disk / "checkpoints"
    (disk / "attempt-1").mkdir()
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4096))
    error = diagnose_failure(disk / "attempt-1", AttemptEnd(lost={0: 1 << 8}), 1)
    assert error is not None
    assert error.hint.startswith(
        f"the disk with {disk} is full, and nothing can be said on it: make room there"
    )


@AS_ROOT
def test_what_is_written_by_way_of_a_temporary_file_leaves_none_on_a_full_disk(small_disk: Path) -> None:
    disk = small_disk / "checkpoints"
    (disk / "metrics.jsonl").write_text('{"event": "step", "step": 1}\n' * 500)
    with (disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4096))
    before = sorted(disk.iterdir())
    for write, name in (
        (lambda: write_json(disk / "outcome.json", {"a": 1}), "outcome.json"),
        (lambda: write_json(disk / "outcome.json", {"a": 1}, durable=True), "outcome.json"),
        (lambda: take_ownership(disk, "attempt-2"), "owner"),
        (lambda: rewind(disk / "metrics.jsonl", 5, 0, anew=True), ".metrics.jsonl.tmp"),
    ):
        with pytest.raises(OSError, match="No space left on device") as caught:
            write()
        told = known(caught.value)
        assert isinstance(told, MachineError)
        assert told.message.startswith(
            f"{disk / name} cannot be written: No space left on device: 0.0 of 0.5 MB"
        )
        assert sorted(disk.iterdir()) == before


@AS_ROOT
def test_a_folder_that_became_read_only_is_a_warning(small_disk: Path) -> None:
    remount = ["mount", "-o", "remount,{},size=4m", str(small_disk / "checkpoints")]
    with writer(small_disk) as one:
        one.write(snapshot(1), set())
        one.finish()
        subprocess.run([word.format("ro") for word in remount], check=True)
        one.write(snapshot(2), set())
        with pytest.raises(MachineError, match="Read-only file system"):
            one.finish()
        assert _loads(small_disk) == 1
        subprocess.run([word.format("rw") for word in remount], check=True)
        one.write(snapshot(3), set())
        one.finish()
    assert _loads(small_disk) == 3


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoints", snapshot(7))


def _refused(path: Path, name: str) -> None:
    with pytest.raises(DamagedError, match=re.escape(str(path / name))):
        read_checkpoint(path)


def test_two_hundred_flipped_bytes_are_refused_by_name(written: Path) -> None:
    draw = random.Random(200)
    names = sorted(path.name for path in written.iterdir())
    assert len(names) == 6
    for number in range(200):
        file = written / names[number % len(names)]
        content = bytearray(file.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        whole = file.read_bytes()
        file.write_bytes(content)
        _refused(written, file.name)
        file.write_bytes(whole)
    assert read_checkpoint(written).state["step"] == 7


def test_truncated_and_missing_files_are_refused_by_name(written: Path) -> None:
    draw = random.Random(20)
    for file in sorted(written.iterdir()):
        whole = file.read_bytes()
        for length in (0, len(whole) - 1, *draw.sample(range(len(whole)), 2)):  # 24 truncations in all
            file.write_bytes(whole[:length])
            _refused(written, file.name)
        file.unlink()
        _refused(written, file.name)
        file.write_bytes(whole)
    assert read_checkpoint(written).state["step"] == 7


class Planted:
    """Unpickling it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def _reseal(path: Path) -> None:
    """What somebody does who may write the folder: the manifest fits the files again."""
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    for name, entry in manifest["files"].items():
        content = (path / name).read_bytes()
        entry |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (path / "manifest.json").write_text(_with_checksum(manifest))


@pytest.mark.parametrize("resealed", [False, True])
def test_a_planted_pickle_never_runs(written: Path, tmp_path: Path, *, resealed: bool) -> None:
    marker = tmp_path / "it ran"
    poison = pickle.dumps(Planted(marker))
    pickle.loads(poison)
    assert marker.exists(), "the plant is alive"
    marker.unlink()
    for file in sorted(written.iterdir()):
        whole = {path: path.read_bytes() for path in written.iterdir()}
        torch.save(Planted(marker), file) if file.suffix == ".safetensors" else file.write_bytes(poison)
        if resealed and file.name != "manifest.json":
            _reseal(written)
        _refused(written, file.name)
        file.write_bytes(poison)
        _refused(written, "" if resealed and file.name != "manifest.json" else file.name)
        for path, content in whole.items():
            path.write_bytes(content)
    assert not marker.exists()
    assert list_checkpoints(written.parent) == [written]

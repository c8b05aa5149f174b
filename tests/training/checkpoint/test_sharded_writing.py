"""A checkpoint that ranks write together: there once every shard is, and read by rows on any number of ranks."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.data.common.errors import DamagedError, RankLostError
from lockstep.training.checkpoint import sharded_writing, storage
from lockstep.training.checkpoint.background_writer import CheckpointWriter
from lockstep.training.checkpoint.layout import checkpoint_path, list_checkpoints, temporary_path
from lockstep.training.checkpoint.manifest import verify
from lockstep.training.checkpoint.sharded_writing import total_bytes, write_sharded
from lockstep.training.checkpoint.storage import (
    CheckpointContents,
    open_newest,
    read_checkpoint,
    remove_leftovers,
    write_checkpoint,
)
from lockstep.training.rank.process_group import Group
from lockstep.training.tracking.event_log import EventLog, read_events
from tests.helpers.threaded_ranks import threaded_groups

WHOLE = {"weight": torch.arange(15.0).reshape(5, 3), "half": torch.arange(2).bfloat16()}
FILES = (
    *("manifest.json", "model.safetensors", "optimizer.safetensors"),
    *("shard-00000-of-00002.safetensors", "shard-00001-of-00002.safetensors", "state.json"),
)


def _part(rank: int, step: int = 3, *, pending: bool = False) -> CheckpointContents:
    """Rows as FSDP cuts them for two ranks, and what rank 0 alone writes."""
    rows = [slice(0, 3), slice(3, 5)], [slice(0, 1), slice(1, 2)]
    shard = {
        f"{part}/{name}": sign * tensor[cuts[rank]]
        for (name, tensor), cuts in zip(WHOLE.items(), rows, strict=True)
        for part, sign in (("model", 1), ("ema", -1))
    }
    if rank:
        return CheckpointContents({}, {}, {"step": step}, shard=shard)
    state = {"step": step, "epoch": 1, "pending": pending}
    return CheckpointContents(
        {"buffer": torch.ones(2)}, {"weight/step": torch.tensor(7.0)}, state, shard=shard
    )


def _on_both(task: Callable[[Group], Any]) -> list[Any]:
    """What the task returns or raises on each rank."""
    found: list[Any] = [None, None]

    def run(group: Group) -> None:
        try:
            found[group.rank] = task(group)
        except Exception as error:  # noqa: BLE001 - it is looked at
            found[group.rank] = error

    threads = [threading.Thread(target=run, args=(group,)) for group in threaded_groups()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


def _write(folder: Path, step: int = 3, *, pending: bool = False, fence: Any = None) -> list[Any]:
    def task(group: Group) -> None:
        final = checkpoint_path(folder, step)
        part = _part(group.rank, step, pending=pending)
        write_sharded(temporary_path(final, "both"), final, part, total_bytes(part, group), group, fence)

    return _on_both(task)


def test_the_shards_of_all_ranks_are_one_checkpoint(tmp_path: Path) -> None:
    assert _write(tmp_path) == [None, None]
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000003"]
    path = tmp_path / "step_00000003"
    assert tuple(sorted(file.name for file in path.iterdir())) == FILES
    found = read_checkpoint(path)
    assert found.model.keys() == {"buffer", *WHOLE}
    for name, tensor in WHOLE.items():
        assert torch.equal(found.model[name], tensor)
        assert found.model[name].dtype == tensor.dtype
        assert torch.equal(found.weights[name], -tensor)
    assert found.optimizer == {"weight/step": torch.tensor(7.0)}
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["schema_version"], manifest["shards"]) == (3, 2), (
        "an older Lockstep says that it cannot read it"
    )
    assert manifest["files"][FILES[4]]["tensors"]["model/weight"] == "float32 [2, 3]"


def test_any_rows_are_read_whatever_the_cut_was(tmp_path: Path) -> None:
    _write(tmp_path)
    weight = open_newest(tmp_path)[1].model["weight"]
    assert (weight.shape, weight.dtype) == ((5, 3), torch.float32)
    for start in range(6):
        for stop in range(start, 6):
            assert torch.equal(weight.rows(start, stop), WHOLE["weight"][start:stop])
    write_checkpoint(tmp_path, CheckpointContents(WHOLE, {}, {"step": 9}))
    assert torch.equal(open_newest(tmp_path)[1].model["weight"].rows(1, 4), WHOLE["weight"][1:4])


@pytest.mark.parametrize("name", FILES[3:5])
@pytest.mark.parametrize("gone", [True, False])
def test_a_damaged_shard_is_named_and_the_one_before_is_used(
    tmp_path: Path, name: str, *, gone: bool
) -> None:
    for step in (3, 4):
        _write(tmp_path, step)
    shard = tmp_path / "step_00000004" / name
    content = shard.read_bytes()
    if gone:
        shard.unlink()
    else:
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    path, _, damaged = open_newest(tmp_path)
    assert path.name == "step_00000003"
    assert [str(shard) in error.message for error in damaged] == [True]


def test_a_manifest_names_every_shard(tmp_path: Path) -> None:
    _write(tmp_path)
    path = tmp_path / "step_00000003"
    storage.write_manifest(
        path, {"step": 3}, {}, {name: storage.file_entry(path / name, {}) for name in FILES[3:4]}
    )
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["shards"] == 1
    with pytest.raises(DamagedError, match="does not list shard-00000-of-00001"):
        verify(path)


@pytest.mark.parametrize("failing", [0, 1])
def test_of_a_checkpoint_that_one_rank_cannot_write_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    _write(tmp_path, 2)
    honest = sharded_writing.write_shard

    def fail(file: Path, tensors: Any) -> Any:
        if file.name == FILES[3 + failing]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return honest(file, tensors)

    monkeypatch.setattr(sharded_writing, "write_shard", fail)
    error, other = _write(tmp_path)
    assert isinstance(error, OSError)
    assert (error.errno, error.strerror) == (errno.ENOSPC, f"{FILES[3 + failing]}: No space left on device")
    assert other is None, "rank 0 says it"
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000002"]


def test_where_there_is_no_room_no_rank_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no room")

    asked: list[int] = []
    monkeypatch.setattr(storage, "_require_free_space", lambda _, needed: (asked.append(needed), full()))
    error, other = _write(tmp_path)
    assert isinstance(error, OSError)
    assert other is None
    assert list(tmp_path.iterdir()) == []
    bytes_of_all = 2 * (15 * 4 + 2 * 2) + 2 * 4 + 4
    assert asked == [bytes_of_all + storage._OVERHEAD_BYTES]


def test_an_attempt_that_was_given_up_commits_nothing(tmp_path: Path) -> None:
    def lost() -> None:
        raise RankLostError("given up", "")

    error, other = _write(tmp_path, fence=lost)
    assert isinstance(error, RankLostError)
    assert other is None
    assert list(tmp_path.iterdir()) == []


def test_a_shard_that_rank_0_does_not_see_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the run folder is not one folder on all machines."""
    honest = sharded_writing.write_shard

    def elsewhere(file: Path, tensors: Any) -> Any:
        entry = honest(file, tensors)
        if file.name == FILES[4]:
            file.unlink()
        return entry

    monkeypatch.setattr(sharded_writing, "write_shard", elsewhere)
    assert FILES[4] in str(_write(tmp_path)[0])
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_there_is_kept_and_one_that_waited_for_its_evaluation_replaced(tmp_path: Path) -> None:
    def changed() -> int:
        return (tmp_path / "step_00000003" / FILES[4]).stat().st_mtime_ns

    _write(tmp_path, pending=True)
    before = changed()
    _write(tmp_path, pending=True)
    assert changed() == before
    assert _write(tmp_path, pending=False) == [None, None]
    assert not read_checkpoint(tmp_path / "step_00000003").state["pending"]
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000003"]


def test_writers_of_all_ranks_write_in_the_background_and_rank_0_prunes(tmp_path: Path) -> None:
    def task(group: Group) -> None:
        events = EventLog(tmp_path / "metrics.jsonl" if group.rank == 0 else None, lambda: None)
        writer = CheckpointWriter(tmp_path / "checkpoints", events, lambda: None, 2, group)
        for step in (1, 2, 3):
            part = _part(group.rank, step)
            part = replace(part, shard={name: rows.clone() for name, rows in (part.shard or {}).items()})
            writer.write(part, set())
            for rows in (part.shard or {}).values():
                rows.zero_()  # the copy is written, not what training makes of it
        writer.finish()
        events.close()

    assert _on_both(task) == [None, None]
    assert torch.equal(open_newest(tmp_path / "checkpoints")[1].model["weight"].whole(), WHOLE["weight"])
    assert [path.name for path in list_checkpoints(tmp_path / "checkpoints")] == [
        "step_00000003",
        "step_00000002",
    ]
    committed = [e for e in read_events(tmp_path / "metrics.jsonl") if e["event"] == "checkpoint"]
    assert [event["step"] for event in committed] == [1, 2, 3]
    assert {event["bytes"] for event in committed} == {2 * (15 * 4 + 2 * 2) + 2 * 4 + 4}, "of all ranks"


def test_left_over_shards_are_swept(tmp_path: Path) -> None:
    _write(tmp_path)
    left = temporary_path(checkpoint_path(tmp_path, 5), "0123456789abcdef")
    left.mkdir()
    (left / FILES[3]).write_bytes(b"half of it")
    assert open_newest(tmp_path)[0].name == "step_00000003"
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000003"]

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from lockstep.data.common.errors import DamagedError, UsageError
from lockstep.training.checkpoint import manifest
from lockstep.training.checkpoint import storage as checkpoint
from lockstep.training.checkpoint.layout import list_checkpoints
from lockstep.training.checkpoint.storage import (
    CheckpointContents,
    open_newest,
    read_checkpoint,
    remove_checkpoint,
    remove_leftovers,
    tensors_sha256,
    write_checkpoint,
)

FILES = ("model.safetensors", "optimizer.safetensors", "rank_buffers.safetensors", "state.json")


def _snapshot(step: int = 3, value: float = 1.0) -> CheckpointContents:
    return CheckpointContents(
        model={"weight": torch.full((2, 3), value), "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)},
        optimizer={"weight/step": torch.tensor(7.0)},
        state={"step": step, "epoch": 1},
        rank_buffers={"norm.running_mean": torch.tensor([[1.0], [2.0]], dtype=torch.float64)},
    )


def _pending(step: int, *, pending: bool) -> CheckpointContents:
    """Before its evaluation, and after it: then the checkpoint is written once more."""
    snapshot = _snapshot(step)
    return replace(snapshot, state={**snapshot.state, "pending": pending})


def _equal(one: CheckpointContents, other: CheckpointContents) -> bool:
    parts = [
        (one.model, other.model),
        (one.optimizer, other.optimizer),
        (one.rank_buffers, other.rank_buffers),
    ]
    return one.state == other.state and all(
        a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)
        for a, b in parts
    )


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "checkpoints", _snapshot())
    assert path.name == "step_00000003"
    assert _equal(read_checkpoint(path), _snapshot())
    assert sorted(file.name for file in path.iterdir()) == sorted([*FILES, "manifest.json"])


def test_without_batch_norm_there_is_no_file_for_it(tmp_path: Path) -> None:
    snapshot = _snapshot()
    path = write_checkpoint(
        tmp_path, CheckpointContents(snapshot.model, snapshot.optimizer, snapshot.state, {})
    )
    assert not (path / "rank_buffers.safetensors").exists()
    assert read_checkpoint(path).rank_buffers == {}


def test_an_optimizer_without_state_is_a_checkpoint_as_well(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, CheckpointContents(_snapshot().model, {}, {"step": 0}, {}))
    assert read_checkpoint(path).optimizer == {}


def test_tied_and_strided_tensors_are_written_whole(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    model = {"in": weight, "out": weight, "turned": weight.T, "row": weight[1]}
    path = write_checkpoint(tmp_path, CheckpointContents(model, {}, {"step": 1}, {}))
    read = read_checkpoint(path).model
    assert all(torch.equal(read[name], tensor) for name, tensor in model.items())


def test_a_step_that_is_there_is_kept(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, _snapshot(value=1.0))
    before = (path / "model.safetensors").stat().st_mtime_ns
    assert write_checkpoint(tmp_path, _snapshot(value=1.0)) == path
    assert (path / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("module", "failing"), [(checkpoint, "save_file"), (checkpoint, "sync"), (manifest, "file_sha256")]
)
def test_a_checkpoint_that_fails_half_way_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, failing: str
) -> None:
    honest, calls = getattr(module, failing), []

    def fail(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return honest(*arguments)

    monkeypatch.setattr(module, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(tmp_path, _snapshot())
    assert list(tmp_path.iterdir()) == []


def test_every_file_is_on_the_disk_before_its_checkpoint_has_a_name_and_the_name_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, synced = checkpoint.sync, []

    def sync(path: Path) -> None:
        synced.append((path.name, (tmp_path / "step_00000003").exists()))
        honest(path)

    monkeypatch.setattr(checkpoint, "sync", sync)
    write_checkpoint(tmp_path, _snapshot())
    *before, last = synced
    assert {name for name, _ in before} == {*FILES, "manifest.json", f".step_00000003.{os.getpid()}.tmp"}
    assert not any(named for _, named in before)
    assert before[-1][0].startswith("."), "the folder after the files in it"
    assert last == (tmp_path.name, True)


def test_no_temporary_folder_is_taken_for_a_checkpoint(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, _snapshot(3))
    (tmp_path / ".step_00000009.77.tmp").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_00000003"]


def test_of_a_checkpoint_that_is_a_link_the_link_goes_and_what_it_points_to_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    folder = tmp_path / "checkpoints"
    for step in (3, 4, 5):
        write_checkpoint(elsewhere, _pending(step, pending=True))
    folder.mkdir()
    for step in (3, 4):
        (folder / f"step_0000000{step}").symlink_to(elsewhere / f"step_0000000{step}")
    (folder / ".step_00000005.77.tmp").symlink_to(elsewhere / "step_00000005")  # left by a kill in between
    remove_leftovers(folder)
    remove_checkpoint(folder / "step_00000003")
    write_checkpoint(folder, _pending(4, pending=False))
    (folder / "step_00000006").symlink_to(tmp_path / "nowhere")
    write_checkpoint(folder, _snapshot(6))
    assert [path.name for path in list_checkpoints(folder)] == ["step_00000006", "step_00000004"]
    assert not list(folder.glob(".*"))
    assert not (folder / "step_00000004").is_symlink()
    assert [open_newest(elsewhere, step)[1].state["step"] for step in (3, 4, 5)] == [3, 4, 5]


def test_what_only_resembles_a_checkpoint_s_name_is_none(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, _snapshot(3))
    digits = ("²", "0000000²", "٣", "9", "000000009", "0" * 30, "9" * 240, "00000004.old", "-0000004", "")
    for name in digits:
        (tmp_path / f"step_{name}").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_00000003"]
    assert open_newest(tmp_path)[1].state["step"] == 3


def _truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("harm", [_truncate, _flip, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_not_what_was_written_is_refused_by_name(
    tmp_path: Path, harm: object, name: str
) -> None:
    path = write_checkpoint(tmp_path, _snapshot())
    harm(path / name)  # type: ignore[operator]
    with pytest.raises(DamagedError, match=str(path / name)):
        read_checkpoint(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": 3}', '{"files": {}}', "\x00\xff"])
def test_a_manifest_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = write_checkpoint(tmp_path, _snapshot())
    (path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DamagedError, match=r"manifest\.json"):
        read_checkpoint(path)


@pytest.mark.parametrize("entry", [None, 3, {}, {"sha256": "00"}, {"bytes": 3}])
def test_a_manifest_with_a_wrong_entry_is_refused(tmp_path: Path, entry: object) -> None:
    path = write_checkpoint(tmp_path, _snapshot())
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["state.json"] = entry
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedError):
        read_checkpoint(path)


def test_the_newest_whole_checkpoint_is_used_and_the_damaged_one_told(tmp_path: Path) -> None:
    for step in (3, 99_999_999, 100_000_000):
        write_checkpoint(tmp_path, _snapshot(step))
    _flip(tmp_path / "step_100000000" / "model.safetensors")
    path, snapshot, damaged = open_newest(tmp_path)
    assert (path.name, snapshot.state["step"]) == ("step_99999999", 99_999_999)
    assert ["step_100000000" in error.message for error in damaged] == [True]


def test_where_none_is_whole_each_is_named_with_what_is_wrong(tmp_path: Path) -> None:
    for step in range(1, 12):
        _flip(write_checkpoint(tmp_path, _snapshot(step)) / "model.safetensors")
    (tmp_path / "step_00000011" / "manifest.json").unlink()
    (tmp_path / "step_00000010" / "model.safetensors").unlink()
    with pytest.raises(DamagedError, match="no checkpoint is whole") as caught:
        open_newest(tmp_path)
    rows = caught.value.message.splitlines()[1:]
    assert "step_00000011/manifest.json cannot be read" in rows[0]
    assert "step_00000010/model.safetensors is missing" in rows[1]
    assert "step_00000004/model.safetensors is not what was written" in rows[7]
    assert rows[8:] == ["  and 3 more"]
    assert "--checkpoint" not in caught.value.hint


def test_the_checkpoint_of_a_step_is_that_one_or_an_error(tmp_path: Path) -> None:
    for step in (3, 20):
        write_checkpoint(tmp_path, _snapshot(step))
    assert open_newest(tmp_path, 3)[0].name == "step_00000003"
    with pytest.raises(UsageError, match="step 4"):
        open_newest(tmp_path, 4)
    _flip(tmp_path / "step_00000003" / "state.json")
    with pytest.raises(DamagedError):
        open_newest(tmp_path, 3)


def test_without_any_checkpoint_it_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no checkpoint"):
        open_newest(tmp_path / "nothing")


def test_a_hash_depends_on_names_types_shapes_and_values_alone() -> None:
    a, b = torch.arange(6.0).reshape(2, 3), torch.tensor(3)
    digest = tensors_sha256({"a": a, "b": b})
    assert tensors_sha256({"b": b, "a": a}) == digest
    assert tensors_sha256({"a": a.T.contiguous().T, "b": b}) == digest
    others = [
        {"a": a, "c": b},
        {"a": a.reshape(3, 2), "b": b},
        {"a": a.double(), "b": b},
        {"a": a + 2**-20, "b": b},
        {"a": a},
        {"a": -a * -1, "b": torch.tensor(4)},
    ]
    assert digest not in [tensors_sha256(other) for other in others]


def test_a_hash_tells_minus_zero_and_bf16_apart() -> None:
    zero = torch.zeros(2)
    values = [zero, -zero, zero.bfloat16(), zero.half(), torch.zeros(2, dtype=torch.bool), torch.zeros(0)]
    assert len({tensors_sha256({"x": value}) for value in values}) == len(values)


@pytest.mark.parametrize("able", [True, False])
def test_one_that_waited_for_its_evaluation_is_replaced_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, able: bool
) -> None:
    def snapshot(value: float, *, pending: bool) -> CheckpointContents:
        return CheckpointContents({"w": torch.tensor(value)}, {}, {"step": 3, "epoch": 1, "pending": pending})

    if not able:
        monkeypatch.setattr(checkpoint, "_exchange", lambda one, other: None)
    path = write_checkpoint(tmp_path, snapshot(1.0, pending=True))
    write_checkpoint(tmp_path, snapshot(2.0, pending=False))
    found = read_checkpoint(path)
    assert (found.model["w"].item(), found.state["pending"]) == ((2.0, False) if able else (1.0, True))
    write_checkpoint(tmp_path, snapshot(3.0, pending=found.state["pending"]))
    assert torch.equal(read_checkpoint(path).model["w"], found.model["w"])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]

"""A checkpoint is what its folder says: of that step, of that run, and all of its files of the same moment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lockstep.data.common.errors import DamagedError
from lockstep.training.checkpoint.background_writer import CheckpointWriter
from lockstep.training.checkpoint.manifest import is_intact, newest_checkpoint_step, verify, write_manifest
from lockstep.training.checkpoint.storage import CheckpointContents, open_newest, write_checkpoint
from lockstep.training.tracking.event_log import EventLog

RUN = {"run": "mine", "run_id": "1234abcd"}
OTHERS = {
    "of another name": {"run": "other", "run_id": "5678ef00"},
    "of the same name": {"run": "mine", "run_id": "5678ef00"},
    "of another name, by version 0.1": {"run": "other"},
}


def _contents(step: int, run: dict[str, str] = RUN) -> CheckpointContents:
    return CheckpointContents({"w": torch.full((3,), float(step))}, {}, {"step": step, "epoch": 1, **run})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The ``checkpoints`` of a run."""
    folder = tmp_path / "mine" / "checkpoints"
    folder.mkdir(parents=True)
    (folder.parent / "spec.json").write_text(json.dumps({"run": RUN["run"], "wandb_id": RUN["run_id"]}))
    return folder


def _steps(folder: Path) -> list[str]:
    return sorted(path.name.removeprefix("step_00000") for path in folder.glob("step_*"))


def test_a_copy_under_the_name_of_another_step_is_refused_by_name(run: Path) -> None:
    for step in (36, 72):
        write_checkpoint(run, _contents(step))
    shutil.copytree(run / "step_00000036", run / "step_00000108")
    path, found, damaged = open_newest(run)
    assert (path.name, found.model["w"].whole()[0].item()) == ("step_00000072", 72)
    (error,) = damaged
    assert error.message.endswith(
        "step_00000108 is the checkpoint of step 36: its folder's name says step 108"
    )
    with pytest.raises(DamagedError, match="step_00000108 is the checkpoint of step 36"):
        open_newest(run, 108)
    assert newest_checkpoint_step(run, -1) == 72
    assert newest_checkpoint_step(run.parent, -1) == -1


def test_under_a_name_of_the_users_own_it_may_be_kept_anywhere(run: Path, tmp_path: Path) -> None:
    kept = shutil.copytree(write_checkpoint(run, _contents(36)), tmp_path / "the good one")
    assert "model.safetensors" in verify(kept)


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "optimizer.safetensors"])
def test_a_file_of_another_checkpoint_is_refused_by_both_names(run: Path, name: str) -> None:
    for step in (36, 72):
        contents = _contents(step)
        contents.optimizer["w/step"] = torch.tensor(float(step))
        write_checkpoint(run, contents)
    shutil.copy(run / "step_00000036" / name, run / "step_00000072")
    with pytest.raises(DamagedError, match=f"step_00000072/{name} is that of step_00000036"):
        open_newest(run, 72)


@pytest.mark.parametrize("key", ["step", "world_size", "config_sha256", "data_fingerprint", "run", "run_id"])
def test_a_state_that_the_manifest_was_sealed_over_must_be_the_manifests(run: Path, key: str) -> None:
    whole = {**RUN, "step": 36, "world_size": 2, "config_sha256": "c", "data_fingerprint": "d"}
    path = write_checkpoint(run, CheckpointContents({}, {}, whole))
    verify(path)
    (path / "state.json").write_text(json.dumps(whole | {key: 35}))
    (path / "manifest.json").unlink()
    write_manifest(path, whole, {})
    with pytest.raises(DamagedError, match=f"of several checkpoints: {key} is 35 in the state"):
        verify(path)


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_another_run_is_refused_by_that_runs_name(
    run: Path, tmp_path: Path, other: str
) -> None:
    theirs = write_checkpoint(tmp_path / "theirs" / "checkpoints", _contents(72, OTHERS[other]))
    write_checkpoint(run, _contents(36))
    shutil.copytree(theirs, run / theirs.name)
    path, _, damaged = open_newest(run)
    assert path.name == "step_00000036"
    assert f"was not written by this run, but by another one, named {OTHERS[other]['run']}" in str(damaged[0])
    write_checkpoint(run, _contents(72))
    assert open_newest(run)[1].state["run_id"] == RUN["run_id"], "an impostor is no reason not to write"


@pytest.mark.parametrize("spec", ["{", "[]", "{}", None])
def test_without_a_spec_that_says_so_no_run_is_another(run: Path, spec: str | None) -> None:
    (run.parent / "spec.json").unlink()
    if spec is not None:
        (run.parent / "spec.json").write_text(spec)
    assert is_intact(write_checkpoint(run, _contents(3)))


def test_one_by_version_0_1_belongs_to_the_run_of_its_name(run: Path) -> None:
    assert is_intact(write_checkpoint(run, _contents(3, {"run": "mine"})))


@pytest.fixture
def events(tmp_path: Path) -> Any:
    log = EventLog(tmp_path / "metrics.jsonl")
    yield log
    log.close()


def test_a_resumed_run_sets_aside_what_is_not_its_own(run: Path, events: EventLog, tmp_path: Path) -> None:
    theirs = write_checkpoint(tmp_path / "theirs" / "checkpoints", _contents(50, OTHERS["of the same name"]))
    for step in (36, 72):
        write_checkpoint(run, _contents(step))
    shutil.copytree(theirs, run / theirs.name)
    shutil.copytree(run / "step_00000036", run / "step_00000108")
    (run / "step_00000020").symlink_to(run / "step_00000036")
    (write_checkpoint(run, _contents(80)) / "manifest.json").write_text("damaged, not out of place")
    notes = CheckpointWriter(run, events, lambda: None, None).open(72)
    assert _steps(run) == ["036", "072", "080"]
    assert len(notes) == len(list(run.glob("damaged-step_*"))) == 3
    assert all(
        f"{run / name}" in "\n".join(notes) for name in ("step_00000020", "step_00000050", "step_00000108")
    )


def test_one_that_no_longer_owns_the_run_moves_nothing(run: Path, events: EventLog) -> None:
    def given_up() -> None:
        raise DamagedError("given up")

    shutil.copytree(write_checkpoint(run, _contents(36)), run / "step_00000108")
    with pytest.raises(DamagedError, match="given up"):
        CheckpointWriter(run, events, given_up, None).open(36)
    assert _steps(run) == ["036", "108"]


def test_the_damaged_never_count_as_those_that_stay(run: Path, events: EventLog) -> None:
    """Else both whole ones would be deleted, and the damaged kept."""
    for step in (20, 30, 40):
        write_checkpoint(run, _contents(step))
    for step in (30, 40):
        with (run / f"step_000000{step}" / "model.safetensors").open("ab") as file:
            file.write(b"x")
    writing = CheckpointWriter(run, events, lambda: None, keep_last=2)
    writing.open(20)
    left = []
    for step in (21, 35, 40, 50):
        writing.write(_contents(step), set())
        writing.finish()
        left.append([path.name[-2:] for path in sorted(run.glob("step_*")) if is_intact(path)])
    assert left == [["20", "21"], ["21", "35"], ["35", "40"], ["40", "50"]]
    assert _steps(run) == ["040", "050"]
    assert len(list(run.glob("damaged-step_00000040-*"))) == 1

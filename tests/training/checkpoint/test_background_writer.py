from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lockstep.data.common.errors import RankLostError, TrainingError
from lockstep.training.checkpoint import background_writer as writer
from lockstep.training.checkpoint.background_writer import CheckpointWriter
from lockstep.training.checkpoint.storage import CheckpointContents
from lockstep.training.tracking.event_log import EventLog


def test_an_error_that_nobody_foresaw_is_not_lost_with_its_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Path:
        raise KeyError(torch.complex128)

    monkeypatch.setattr(writer, "write_checkpoint", fail)
    events = EventLog(tmp_path / "metrics.jsonl", lambda: None)
    writing = CheckpointWriter(tmp_path, events, lambda: None, None)
    writing.write(CheckpointContents({"w": torch.ones(2)}, {}, {"step": 3}), set())
    with pytest.raises(TrainingError, match="the checkpoint of step 3 cannot be written: KeyError"):
        writing.finish()
    events.close()


def test_the_newest_checkpoint_is_one_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    events = EventLog(tmp_path / "metrics.jsonl", lambda: None)
    writing = CheckpointWriter(tmp_path / "checkpoints", events, lambda: None, None)
    writing.open(-1)
    assert writing.newest() is None
    writing.open(3)
    assert writing.newest() == 3
    contents = {"w": torch.ones(2)}
    writing.write(CheckpointContents(contents, {}, {"step": 5}), set())
    assert writing.newest() == 5
    monkeypatch.setattr(writer, "write_checkpoint", fail)
    writing.write(CheckpointContents(contents, {}, {"step": 7}), set())
    assert writing.newest() == 5
    events.close()


def test_who_goes_on_for_a_process_that_has_died_knows_what_that_one_has_not_finished(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    events = EventLog(tmp_path / "metrics.jsonl")
    before, after = (CheckpointWriter(folder, events, lambda: None, None) for _ in range(2))
    assert not after.take_over(9, None, set())
    before.write(CheckpointContents({"w": torch.ones(2)}, {}, {"step": 5}), set())
    before.finish()
    half = folder / ".step_00000007.tmp"
    half.mkdir()
    assert not after.take_over(9, 5, {5})
    assert not half.exists()
    assert after.newest() == 5
    assert after.take_over(9, 7, {5})
    with pytest.raises(RankLostError, match="the checkpoint of step 7, one of the best, is not there"):
        after.take_over(9, 7, {7})
    after.take_over(4, None, set())
    assert after.newest() is None, "step 5 was passed over as damaged"
    events.close()

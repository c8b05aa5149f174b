from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lockstep.data.errors import TrainingError
from lockstep.training import writer
from lockstep.training.checkpoint import Snapshot
from lockstep.training.events import EventLog
from lockstep.training.writer import Writer


def test_an_error_that_nobody_foresaw_is_not_lost_with_its_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Path:
        raise KeyError(torch.complex128)

    monkeypatch.setattr(writer, "write_checkpoint", fail)
    events = EventLog(tmp_path / "metrics.jsonl", lambda: None)
    writing = Writer(tmp_path, events, lambda: None, None)
    writing.write(Snapshot({"w": torch.ones(2)}, {}, {"step": 3}), set())
    with pytest.raises(TrainingError, match="the checkpoint of step 3 cannot be written: KeyError"):
        writing.finish()
    events.close()

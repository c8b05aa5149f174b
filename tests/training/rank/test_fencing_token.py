"""One attempt owns a run: only the one whose token is in the run folder may commit and log."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch

from lockstep.data.common.errors import MachineError, RankLostError
from lockstep.training.checkpoint.background_writer import CheckpointWriter
from lockstep.training.checkpoint.storage import CheckpointContents, write_checkpoint
from lockstep.training.rank import fencing_token
from lockstep.training.rank.fencing_token import FencingToken, take_ownership
from lockstep.training.tracking.event_log import EventLog


@pytest.mark.parametrize(("mine", "theirs"), [("attempt-9", "attempt-10"), ("attempt-10", "attempt-9")])
def test_any_other_owner_fences_this_attempt_whatever_their_order(
    tmp_path: Path, mine: str, theirs: str
) -> None:
    fence = FencingToken(tmp_path, mine)
    take_ownership(tmp_path, mine)
    fence.check()
    take_ownership(tmp_path, theirs)
    with pytest.raises(
        RankLostError, match=rf"this attempt \({mine}\) was given up: {theirs} has taken the run over"
    ):
        fence.check()
    assert [path.name for path in tmp_path.iterdir()] == ["owner"]
    FencingToken(tmp_path / "nowhere", None).check()


def test_an_attempt_that_was_given_up_can_neither_commit_nor_log(tmp_path: Path) -> None:
    take_ownership(tmp_path, "attempt-1")
    fence = FencingToken(tmp_path, "attempt-1")
    log = EventLog(tmp_path / "metrics.jsonl", fence.check)
    log.write("step", step=1)
    log.close()
    log = EventLog(tmp_path / "metrics.jsonl", fence.check)
    take_ownership(tmp_path, "attempt-2")
    with pytest.raises(RankLostError, match="attempt-2 has taken the run over"):
        log.write("step", step=2)
    snapshot = CheckpointContents({"w": torch.ones(2)}, {}, {"step": 3}, {})
    with pytest.raises(RankLostError, match="attempt-2 has taken the run over"):
        write_checkpoint(tmp_path / "checkpoints", snapshot, fence.check)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 1
    log.close()


def test_an_attempt_that_was_given_up_while_it_wrote_commits_nothing_and_ends(tmp_path: Path) -> None:
    take_ownership(tmp_path, "attempt-9")
    fence = FencingToken(tmp_path, "attempt-9")
    events = EventLog(tmp_path / "metrics.jsonl", lambda: None)
    writing = CheckpointWriter(tmp_path / "checkpoints", events, fence.check, None)
    writing.write(CheckpointContents({"w": torch.ones(2)}, {}, {"step": 3}), set())
    writing.finish()
    take_ownership(tmp_path, "attempt-10")
    writing.write(CheckpointContents({"w": torch.ones(2)}, {}, {"step": 4}), set())
    with pytest.raises(RankLostError, match="attempt-10 has taken the run over"):
        writing.finish()
    events.close()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_00000003"]


def test_a_folder_that_is_away_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    folder, away = tmp_path / "run", tmp_path / "away"
    folder.mkdir()
    take_ownership(folder, "attempt-1")
    signs: list[float] = []

    def sign() -> None:
        signs.append(time.monotonic())
        if len(signs) == 3:
            away.rename(folder)

    folder.rename(away)
    FencingToken(folder, "attempt-1", sign).check()
    assert len(signs) == 3, "whoever waits says that it lives"


def test_a_folder_that_stays_away_is_named_and_no_fault_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fencing_token, "UNREADABLE_SECONDS", 0.1)
    with pytest.raises(MachineError, match=r"out of reach for 0.1 s: .*/run/owner: No such file") as caught:
        FencingToken(tmp_path / "run", "attempt-1").check()
    assert caught.value.hint == "bring it back; then resume the run"


def test_waiting_for_a_folder_does_not_keep_the_process_from_anything_else(tmp_path: Path) -> None:
    ended = threading.Event()
    fence = FencingToken(tmp_path / "run", "attempt-1", ended.wait)
    waiting = threading.Thread(target=fence.check)
    waiting.start()
    (tmp_path / "run").mkdir()
    take_ownership(tmp_path / "run", "attempt-1")
    ended.set()
    waiting.join(60)
    assert not waiting.is_alive()

"""Who submits a run while another does."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.submit import submit_lock
from lockstep.launcher.submit.submit_lock import hold_submit_lock


def test_who_comes_second_is_told_of_the_first_and_waits(tmp_path: Path, capsys: Any) -> None:
    with (
        hold_submit_lock(tmp_path),
        pytest.raises(UsageError, match="submits it") as refused,
        hold_submit_lock(tmp_path, 0),
    ):
        pass
    first = f"process {os.getpid()}"
    assert first in refused.value.message
    assert "trains" not in refused.value.message
    assert f"note: {first}" in capsys.readouterr().err
    with hold_submit_lock(tmp_path, 0):
        pass


def test_whose_folder_was_taken_away_meanwhile_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    monkeypatch.setattr(submit_lock, "_SOON_SECONDS", 0.0)
    waits, told = Event(), []
    monkeypatch.setattr(submit_lock, "print_messages", lambda _: waits.set())

    def second() -> None:
        try:
            with hold_submit_lock(folder):
                pass
        except UsageError as error:
            told.append(error.message)

    other = Thread(target=second)
    with hold_submit_lock(folder):
        other.start()
        assert waits.wait(60)
        shutil.rmtree(folder)
    other.join(60)
    assert ["taken the folder away" in message for message in told] == [True]
    with pytest.raises(UsageError, match="taken the folder away"), hold_submit_lock(folder):
        pass

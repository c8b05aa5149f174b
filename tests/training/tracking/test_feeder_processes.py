from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from lockstep.training.tracking import feeder_processes
from lockstep.training.tracking.feeder_processes import WARNED


@pytest.mark.parametrize(
    ("said", "warning"),
    [
        ("sys.stderr.write('a line\\nown: it was slow\\n')", "own: it was slow"),
        ("pass", "own did not take the whole record"),  # a full disk has kept nothing of what it said
    ],
)
def test_a_warning_is_what_the_feeder_said_last_and_one_of_ours_where_nothing_was_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, warning: str
) -> None:
    (tmp_path / "warning.py").write_text(f"import sys\n{said}\nsys.exit({WARNED})\n")
    monkeypatch.setattr(feeder_processes, "MODULE", "warning")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    feeder = feeder_processes._Feeder("own", tmp_path, tmp_path, -1)
    found = feeder.wait(time.monotonic() + 60)
    feeder.tell(0)
    assert found is not None
    assert found.startswith(warning), found
    assert found.endswith(f"see {tmp_path / 'own.log'}")


def _killed(feeder: feeder_processes._Feeder) -> int:
    pid = feeder.process.pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def test_a_feeder_that_was_killed_is_started_anew_a_few_times_and_then_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "waits.py").write_text("import sys\nsys.exit(int(sys.stdin.readline()) and 5)\n")
    monkeypatch.setattr(feeder_processes, "MODULE", "waits")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    feeder = feeder_processes._Feeder("own", tmp_path, tmp_path, -1)
    assert not feeder.revive(), "it lives"
    for _ in range(3):
        before = _killed(feeder)
        assert feeder.revive()
        assert feeder.process.pid != before
    feeder.tell(0)
    assert feeder.wait(time.monotonic() + 60) is None, "the last one is told what the first would have been"
    assert not feeder.revive(), "it has ended by itself"
    again = feeder_processes._Feeder("own", tmp_path, tmp_path, -1)
    for _ in range(3):
        _killed(again)
        assert again.revive()
    _killed(again)
    assert not again.revive()
    again.tell(0)
    assert "own did not take the whole record" in (again.wait(time.monotonic() + 60) or "")

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.commands.remove import remove_runs
from lockstep.launcher.runs.run_folder import runs_root
from lockstep.launcher.runs.run_lock import hold_run_lock
from tests.helpers.launch import LAUNCH
from tests.helpers.run_folders import make_run
from tests.helpers.terminal import terminal

DONE = {"status": "done", "exit_code": 0, "epochs": 2, "steps": 66, "metrics": {}}


def _left() -> list[str]:
    return sorted(path.name for path in runs_root().iterdir())


def test_runs_are_removed_and_others_stay(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two", "three"):
        make_run(name, outcome=DONE)
    assert remove_runs(["one", "three", "one"], yes=True) == 0
    out, err = capsys.readouterr()
    assert out.startswith("one: done, 66 steps, 77 B, ")
    assert err == "removed 2 folders\n"
    assert _left() == ["two"]


def test_nothing_is_removed_while_one_of_them_runs_or_is_unknown() -> None:
    make_run("over", outcome=DONE)
    with hold_run_lock(make_run("busy")), pytest.raises(UsageError, match="busy is running"):
        remove_runs(["over", "busy"], yes=True)
    with pytest.raises(UsageError, match="no such run"):
        remove_runs(["over", "none"], yes=True)
    assert _left() == ["busy", "over"]


def test_without_a_terminal_nobody_can_be_asked() -> None:
    make_run("over", outcome=DONE)
    done = subprocess.run([*LAUNCH, "rm", "over"], input="yes\n", capture_output=True, text=True, check=False)
    assert (done.returncode, _left()) == (2, ["over"])
    assert "say --yes" in done.stderr


@pytest.mark.parametrize(("answer", "status", "left"), [(b"no\n", 1, ["over"]), (b"yes\n", 0, [])])
def test_a_user_is_asked(answer: bytes, status: int, left: list[str]) -> None:
    import os

    make_run("over", outcome=DONE)
    with terminal([*LAUNCH, "rm", "over"], 24, 80) as screen:
        screen.wait_for(b"Type yes:")
        os.write(screen.descriptor, answer)
        assert screen.end() == status
    assert _left() == left


def test_a_folder_that_is_linked_to_is_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    (make_run("over", outcome=DONE) / "best").symlink_to(kept)
    remove_runs(["over"], yes=True)
    assert (kept / "file").read_text() == "x"

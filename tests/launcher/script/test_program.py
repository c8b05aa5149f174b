"""How a script's run is described where only its status is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.data.common.atomic_files import write_json
from lockstep.launcher.machine.machine import Machine
from lockstep.launcher.machine.placement import choose_layout
from lockstep.launcher.runs.run_status import read_status
from lockstep.launcher.script.program import follower_outcome


@pytest.mark.parametrize(("status", "words"), [(0, "done"), (75, "stopped"), (1, "failed"), (130, "failed")])
def test_a_nodes_own_folder_says_how_the_run_ended(tmp_path: Path, status: int, words: str) -> None:
    world = choose_layout(Machine(2, (), "here"), None, 1)
    write_json(tmp_path / "outcome.json", follower_outcome(tmp_path, world, status))
    found = read_status(tmp_path)
    assert (found.status, found.outcome["exit_code"], found.was_interrupted) == (words, status, False)


def test_a_run_of_which_only_its_command_is_written_is_as_old_as_that(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert read_status(tmp_path).updated == (tmp_path / "run.json").stat().st_mtime

"""What the README shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lockstep.launcher.config.resolution import recipes
from tests.helpers.launch import Launch
from tests.helpers.readme import README, blocks, commands, lines_that_are_missing


@pytest.mark.parametrize("session", [text for text in blocks("console") if "--hosts" not in text])
def test_every_session_runs_as_shown(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: str
) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    monkeypatch.setenv("LOCKSTEP_RUNS", str(folder / "runs"))
    (folder / "exp.py").write_text(blocks("python")[0])
    (folder / "exp.yaml").write_text(blocks("yaml")[0])
    for arguments, shown in commands(session):
        result = launch(*arguments, cwd=folder)
        assert result.status == (2 if shown[0].startswith("error") else 0), result.err
        assert lines_that_are_missing(shown, result.err + result.out) == [], result.err + result.out


def test_an_own_model_and_data_take_twenty_lines() -> None:
    lines = [line for line in blocks("python")[0].splitlines() if line.strip()]
    assert len(lines) + len(blocks("yaml")[0].splitlines()) <= 20


def test_two_commands_stand_alone_each_in_a_line_of_its_own() -> None:
    lines = blocks("bash")
    assert [block.count("\n") for block in lines] == [1, 1]
    assert "launch train" in lines[0]
    assert "pytest" in lines[1]


def test_every_recipe_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)) >= set(recipes())

"""What the README shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lockstep.launcher.config.resolution import recipes
from tests.helpers.doc_blocks import Block, blocks_of
from tests.helpers.doc_reader import DocReader, own_files
from tests.helpers.launch import Launch
from tests.helpers.paths import ROOT
from tests.helpers.readme import README


def blocks(language: str) -> list[str]:
    return [block.text for block in blocks_of("README.md") if block.language == language]


@pytest.mark.parametrize(
    "session",
    [block for block in blocks_of("README.md") if block.language == "console"],
    ids=lambda one: one.name,
)
def test_every_session_runs_as_shown(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: Block
) -> None:
    (folder := tmp_path / "reader").mkdir()
    monkeypatch.setenv("LOCKSTEP_RUNS", str(folder / "runs"))
    own_files(folder)
    DocReader(launch, folder).do(session)


def test_an_own_model_and_data_take_twenty_lines() -> None:
    lines = [line for line in blocks("python")[0].splitlines() if line.strip()]
    assert len(lines) + len(blocks("yaml")[0].splitlines()) <= 20


def test_two_commands_stand_alone_each_in_a_line_of_its_own() -> None:
    lines = blocks("bash")
    assert [block.count("\n") for block in lines] == [1, 1]
    assert "launch train" in lines[0]
    assert "pytest" in lines[1]


def test_every_recipe_is_in_the_table() -> None:
    table = (ROOT / "docs" / "recipes.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(recipes())
    assert [name for name in recipes() if f"`{name}`" not in README] == []

"""What the README shows is what happens."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lockstep.launcher.config.resolution import recipes
from tests.helpers.launch import Launch
from tests.helpers.paths import ROOT

README = (ROOT / "README.md").read_text()
SESSIONS = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
VARYING = re.compile(r"[\d,.]+ +[\d.]+$")  # samples/s and seconds at the end of a row


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def _commands(session: str) -> list[tuple[list[str], list[str]]]:
    """Each command of a session with the lines that it is said to print."""
    parts = re.split(r"^\$ launch ", session, flags=re.MULTILINE)[1:]
    return [(shlex.split(lines[0]), lines[1:]) for lines in (part.splitlines() for part in parts)]


def _shape(line: str) -> str:
    """A line without what differs from machine to machine: figures, and how many cores there are."""
    return re.sub(r"\d[\d,.]*%?", "0", re.sub(r" +", " ", VARYING.sub("", line))).strip()


@pytest.mark.parametrize("session", SESSIONS)
def test_every_session_runs_as_shown(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, session: str
) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    monkeypatch.setenv("LOCKSTEP_RUNS", str(folder / "runs"))
    (folder / "exp.py").write_text(_blocks("python")[0])
    (folder / "exp.yaml").write_text(_blocks("yaml")[0])
    for arguments, shown in _commands(session):
        result = launch(*arguments, cwd=folder)
        assert result.status == (2 if shown[0].startswith("error") else 0), result.err
        printed = {_shape(line) for line in (result.err + result.out).splitlines()}
        expected = [_shape(line) for line in shown if not line.startswith("note: ")]
        assert [line for line in expected if line not in printed] == [], result.err + result.out


def test_an_own_model_and_data_take_twenty_lines() -> None:
    lines = [line for line in _blocks("python")[0].splitlines() if line.strip()]
    assert len(lines) + len(_blocks("yaml")[0].splitlines()) <= 20


def test_two_commands_stand_alone_each_in_a_line_of_its_own() -> None:
    blocks = _blocks("bash")
    assert [block.count("\n") for block in blocks] == [1, 1]
    assert "launch train" in blocks[0]
    assert "pytest" in blocks[1]


def test_every_recipe_is_in_the_table() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)) >= set(recipes())

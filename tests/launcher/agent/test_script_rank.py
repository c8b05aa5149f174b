"""A program that fails shows what ``python`` itself would show, and no frame of ours."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.launcher.agent import agent
from tests.helpers.launch import run_command

STARTED = agent._FRESH.format(module="script_rank")
FAILING = {
    "raises": ("def f():\n    return 1 / 0\nf()\n", "{script}:2"),
    "chained": ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    {}['x']\n", "{script}:2"),
    "no_python": ("x = 1\ndef f(:\n    pass\n", "{script}:2"),
    "imports_no_python": ("import other\n", "{folder}/other.py:3"),
    "not_there": ("import nowhere_to_be_found\n", "{script}:1"),
    "words": ("import sys\nsys.exit('no data: größe')\n", "{script}:2"),
    "status": ("raise SystemExit(42)\n", "{script}:1"),
    "asserts": ("assert 1 == 2, 'a\\nb'\n", "{script}:1"),
}


def _run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RANK": "0", "LOCAL_RANK": "0", "LOCKSTEP_STATUS_FD": "1"}
    return run_command([sys.executable, *command], cwd=folder, env=environment, encoding="utf-8")


@pytest.mark.parametrize("name", list(FAILING))
def test_what_a_failing_script_shows_is_what_python_shows(tmp_path: Path, name: str) -> None:
    text, place = FAILING[name]
    script = tmp_path / f"{name}.py"
    script.write_text(text)
    (tmp_path / "other.py").write_text("\n\nreturn return\n")
    attempt = tmp_path / "attempt"
    attempt.mkdir()
    ours = _run(tmp_path, "-c", STARTED, str(attempt), script.name)
    plain = _run(tmp_path, script.name)
    assert plain.returncode != 0
    assert (ours.returncode, ours.stderr) == (
        plain.returncode,
        plain.stderr.replace(f'"{script.name}"', f'"{script}"'),
    )
    account = json.loads((attempt / "error-0.json").read_text())
    assert account["where"] == place.format(script=script, folder=tmp_path)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (["-m", "nowhere.to_be_found"], "No module named 'nowhere'"),
        (["-m", "package"], "'package' is a package and cannot be directly executed"),
        (["folder"], "can't find '__main__' module in 'folder'"),
    ],
)
def test_what_is_not_there_is_told_in_pythons_words(tmp_path: Path, program: list[str], words: str) -> None:
    for name in ("attempt", "folder", "package"):
        (tmp_path / name).mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    ours = _run(tmp_path, "-c", STARTED, "attempt", *program)
    assert (ours.returncode, "Traceback" in ours.stderr) == (1, False), ours.stderr
    assert words in ours.stderr
    account = json.loads((tmp_path / "attempt" / "error-0.json").read_text())
    assert words in account["message"]
    assert account["where"] == ""


def test_what_no_file_can_take_is_sent_in_one_piece(tmp_path: Path) -> None:
    (tmp_path / "long.py").write_text(
        "try:\n    {}['ß']\nexcept KeyError:\n    raise ValueError('größer\\n' * 9999)\n"
    )
    ours = _run(tmp_path, "-c", STARTED, "not there", "long.py")
    assert (ours.returncode, "größer" in ours.stderr) == (1, True)
    (line,) = ours.stdout.splitlines()
    assert len(line) < select.PIPE_BUF, "other ranks write to the same pipe"
    told = json.loads(line)
    assert (told["kind"], told["rank"], told["account"]["type"]) == ("error", 0, "ValueError")
    assert told["account"]["where"] == f"{tmp_path / 'long.py'}:2"
    assert told["account"]["message"].startswith("ValueError: größer\ngrößer")
    assert told["account"]["chain"][-1] == ["KeyError", "'ß'"]

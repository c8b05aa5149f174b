"""``launch init``: what it writes is well-kept and trains, and it touches nothing that is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.scaffold import make_project
from tests.helpers.launch import WATCHDOG, Launch

FILES = [".gitignore", "README.md", "config.yaml", "data.py", "model.py", "test_project.py"]


def test_a_new_project_trains_on_two_processes_as_its_readme_says(launch: Launch, tmp_path: Path) -> None:
    made = launch("init", "new/rings", cwd=tmp_path)
    assert (made.status, made.err) == (0, "")
    assert made.out.splitlines() == [
        f"new/rings: {', '.join(FILES)}",
        "next: cd new/rings && launch train config.yaml",
    ]
    project = tmp_path / "new" / "rings"
    assert sorted(path.name for path in project.iterdir()) == FILES
    trained = launch("train", "config.yaml", "--name", "one", "--cpu", "2", "--json", cwd=project)
    assert trained.status == 0, trained.err
    assert trained.document["metrics"]["val/accuracy"] > 0.9
    assert 0.5 < trained.document["metrics"]["val/confidence"] <= 1
    assert "note: " not in trained.err.replace("note: 2 processes share", "")


@pytest.mark.exhaustive
def test_a_new_project_passes_its_own_test_and_every_check(launch: Launch, tmp_path: Path) -> None:
    make_project(tmp_path / "rings", as_json=False)
    project = tmp_path / "rings"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command,
        cwd=project,
        capture_output=True,
        text=True,
        timeout=WATCHDOG,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert launch("check", "config.yaml", cwd=project).status == 0
    trained = launch("train", "config.yaml", "--name", "one", "--cpu", "1", cwd=project)
    evaluated = launch("eval", "one", "--split", "test", "--cpu", "1", "--json", cwd=project)
    assert (trained.status, evaluated.status) == (0, 0), evaluated.err
    assert evaluated.document["metrics"]["test/accuracy"] > 0.9


def test_its_sources_are_typed_and_as_a_linter_without_settings_wants_them(tmp_path: Path) -> None:
    make_project(tmp_path / "rings", as_json=False)
    for words in (["format", "--check"], ["check", "--select", "ANN,ARG,B,E,F,I,N,PT,RET,SIM,UP,W"]):
        command = [sys.executable, "-m", "ruff", *words, "--isolated", "--no-cache", "."]
        done = subprocess.run(
            command, cwd=tmp_path / "rings", capture_output=True, text=True, timeout=WATCHDOG, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_folder_that_is_not_empty_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data.py").write_text("precious")
    for folder, said in (
        (tmp_path / "mine", "mine is not empty: data.py"),
        (tmp_path / "mine" / "data.py", "it is a file, or in one"),
        (tmp_path / "mine" / "data.py" / "new", "it is a file, or in one"),
    ):
        with pytest.raises(UsageError, match=said):
            make_project(folder, as_json=False)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["data.py"]
    assert (tmp_path / "mine" / "data.py").read_text() == "precious"
    (tmp_path / "cloned" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "cloned")
    assert make_project(Path(), as_json=False) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "next: launch train config.yaml"

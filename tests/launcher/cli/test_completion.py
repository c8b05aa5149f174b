"""What a shell completes, asked as the shell asks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.cli.help_commands import VARIABLE
from lockstep.launcher.manual.completion import completion_script, config_names, run_names, setting_keys
from tests.helpers.launch import Launch, run_command
from tests.helpers.run_folders import make_run


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["sta"], ["status"]),
        (["config", ""], ["show", "why", "schema", "reference"]),
        (["train", "digits", "optimizer.l"], ["optimizer.layer_decay=", "optimizer.lr="]),
        (["compare", "first", "sec"], ["second"]),
    ],
)  # fmt: skip
def test_a_shell_is_told_what_fits(words: list[str], offered: list[str], launch: Launch) -> None:
    make_run("first")
    make_run("second")
    asked = {"COMP_WORDS": "\n".join(["launch", *words]), "COMP_CWORD": str(len(words))}
    found = launch(env=asked | {VARIABLE: "complete_bash"})
    assert found.status == 0
    assert set(offered) <= set(found.out.splitlines())
    assert all(line.startswith(words[-1]) for line in found.out.splitlines())


def test_bash_itself_completes_with_the_script(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    make_run("first")
    launcher = tmp_path / "launch"
    launcher.write_text(f'#!/bin/sh\nexec {_python()} -P -m lockstep "$@"\n')
    launcher.chmod(0o755)
    asked = f"""
    COMP_WORDS=({launcher} logs fi); COMP_CWORD=2
    _launch_words {launcher}
    echo "${{COMPREPLY[*]}}"
    """
    script = completion_script("bash", VARIABLE)
    done = run_command([bash, "--norc", "-c", script + asked])
    assert done.stdout == "first\n", done.stderr


def _python() -> str:
    import sys

    return sys.executable


def test_keys_configs_and_runs_are_those_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp.yaml").write_text("")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "other.yml").write_text("")
    assert config_names("e") == ["exp.yaml"]
    assert config_names("sub/") == ["sub/other.yml"]
    assert "digits" in config_names("")
    assert "train.epochs=" in setting_keys("train.e")
    assert setting_keys("") == setting_keys("train.epochs=") == []
    assert run_names("") == []


def test_other_shells_have_a_script_or_an_error(launch: Launch) -> None:
    for shell in ("zsh", "fish"):
        assert VARIABLE in completion_script(shell, VARIABLE)
    with pytest.raises(UsageError, match="tcsh: no script"):
        completion_script("tcsh", VARIABLE)
    assert launch("completion", "bash").out.strip() == completion_script("bash", VARIABLE).strip()


def test_it_is_set_up_in_a_home(tmp_path: Path, launch: Launch) -> None:
    home = {"HOME": str(tmp_path)}
    said = launch("completion", "bash", "--install", env=home)
    written = tmp_path / ".bash_completions" / "launch.sh"
    assert (said.status, said.err) == (0, f"{written}: written; the next shell completes `launch`\n")
    assert written.read_text() == completion_script("bash", VARIABLE)
    assert str(written) in (tmp_path / ".bashrc").read_text()
    subprocess.run(["bash", "--norc", "-n", str(written)], check=True)

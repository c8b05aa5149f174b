"""A file system without locks, as Lustre is by default: told by what it is, and what lies there is shown."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lockstep.data.common.atomic_files import write_json
from tests.helpers.launch import LAUNCH, run_command, runs_folder

WITHOUT = ["strace", "-f", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error={error}"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("ENOSYS", "Function not implemented"),
        pytest.param("EOPNOTSUPP", "Operation not supported", marks=pytest.mark.exhaustive),
        pytest.param("ENOLCK", "No locks available", marks=pytest.mark.exhaustive),
    ],
)
def test_a_file_system_without_locks_is_named_and_its_runs_are_shown(
    tmp_path: Path, error: str, words: str
) -> None:
    without = [part.format(error=error) for part in WITHOUT]
    (script := tmp_path / "fine.py").write_text("")
    refused = run_command([*without, *LAUNCH, "run", "--cpu", "1", "--name", "w", script], cwd=tmp_path)
    assert refused.returncode == 3, refused.stderr
    assert f"error: {runs_folder() / 'w' / '.lock'}: {words}\n" in refused.stderr
    assert (
        "hint: mount the file system with locks (Lustre: -o flock, NFS: its lock service)" in refused.stderr
    )
    write_json(runs_folder() / "w" / "run.json", {})
    write_json(runs_folder() / "w" / "outcome.json", {"status": "done", "exit_code": 0})
    shown = run_command([*without, *LAUNCH, "status"], cwd=tmp_path)
    assert (shown.returncode, shown.stdout.split("\n")[1].split()[:2]) == (0, ["w", "done"]), shown.stderr

"""The built wheel, installed elsewhere, works in a folder whose files have our folders' names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

TRAP = "raise SystemExit('the wrong module was imported')\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the wheel installs, and nothing of the repository."""
    work = tmp_path_factory.mktemp("wheel")
    source = work / "source"
    outputs = {".git", ".venv", "build", "dist", "runs"}  # at the root only: launcher/runs is a package
    generated = shutil.ignore_patterns("*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(
        ROOT,
        source,
        symlinks=True,
        ignore=lambda folder, names: generated(folder, names) | (outputs if Path(folder) == ROOT else set()),
    )
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(work), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = work.glob("lockstep_train-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(work / "site")
    return work / "site"


def test_the_wheel_holds_recipes_licence_and_type_marker(installed: Path) -> None:
    assert (installed / "lockstep" / "configs" / "mnist.yaml").is_file()
    assert (installed / "lockstep" / "py.typed").is_file()
    assert list(installed.glob("*.dist-info/licenses/LICENSE"))
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {"lockstep"}


def test_the_wheel_trains_in_a_hostile_folder(installed: Path, tmp_path: Path) -> None:
    for name in ("data", "training", "launcher", "configs", "lockstep"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    code = "import sys; from lockstep.launcher.cli.start import main; main()"
    arguments = ["train", "regression", "--cpu", "2", "--json"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"status": "done"' in done.stdout

"""Tests that bite: every mutant of ``tests/mutants.py`` is noticed, nearly all of them by the default selection."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.mutants import MUTANTS, Mutant

FEWEST = 80
MOST_EXHAUSTIVE = 0.05
"""Share of the mutants that only ``pytest -m exhaustive`` may notice."""
COPIED = ("launcher", "training", "data", "slurm", "configs", "tests", "docs", "bench", ".typecheck", ".ci")
SECONDS = 900
CAUGHT = 1
"""Status of pytest where a test has failed."""


def named(mutant: Mutant) -> str:
    return f"{Path(mutant.file).stem}: {mutant.breaks}"


def test_every_mutant_changes_one_place_and_names_tests_that_are_there() -> None:
    wrong = [
        named(mutant)
        for mutant in MUTANTS
        if (ROOT / mutant.file).read_text().count(mutant.old) != 1
        or mutant.old == mutant.new
        or not mutant.tests
        or not all((ROOT / path).exists() for path in mutant.tests)
    ]
    assert wrong == []


def test_a_mutant_is_python() -> None:
    for mutant in MUTANTS:
        compile((ROOT / mutant.file).read_text().replace(mutant.old, mutant.new), mutant.file, "exec")


def test_there_are_enough_mutants_and_the_default_selection_notices_nearly_all() -> None:
    late = [named(mutant) for mutant in MUTANTS if mutant.exhaustive]
    assert len(MUTANTS) >= FEWEST
    assert len(late) <= MOST_EXHAUSTIVE * len(MUTANTS), late


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the repository in which ``import lockstep`` finds the copy."""
    folder = tmp_path_factory.mktemp("mutants")
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    for path in (*ROOT.glob("*.md"), ROOT / "pyproject.toml", ROOT / "LICENSE"):
        shutil.copy(path, folder)
    yield folder
    shutil.rmtree(folder)


def run_tests(folder: Path, paths: tuple[str, ...], *, exhaustive: bool = False) -> int:
    """Run pytest in a copy of the repository until the first failure; return its status."""
    environment = os.environ | {
        "PYTHONPATH": f"{folder / '.typecheck'}{os.pathsep}{folder}",
        "PYTHONDONTWRITEBYTECODE": "1",  # a change within a second and of equal length would not be seen
    }
    selection = ["-m", "exhaustive or not exhaustive"] if exhaustive else []
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-p", "no:cacheprovider", *selection, *paths]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode in (0, CAUGHT), done.stdout + done.stderr
    return done.returncode


@pytest.mark.exhaustive
@pytest.mark.timeout(4 * SECONDS)
def test_the_tests_pass_without_a_mutant(copy: Path) -> None:
    """Else a mutant would seem to be noticed by tests that fail anyway."""
    paths = tuple(sorted({path for mutant in MUTANTS for path in mutant.tests}))
    assert run_tests(copy, paths, exhaustive=any(mutant.exhaustive for mutant in MUTANTS)) == 0


@pytest.mark.exhaustive
@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize("mutant", MUTANTS, ids=named)
def test_a_mutant_is_noticed(mutant: Mutant, copy: Path) -> None:
    path = copy / mutant.file
    text = path.read_text()
    path.write_text(text.replace(mutant.old, mutant.new))
    try:
        assert run_tests(copy, mutant.tests, exhaustive=mutant.exhaustive) == CAUGHT
    finally:
        path.write_text(text)

"""What the documents say of the source tree is true: paths exist, and the README's tree names every room."""

from __future__ import annotations

import re

import pytest

from lockstep.launcher.options.supervision import SupervisionOptions
from tests.helpers.paths import ROOT

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/architecture.md")
TOP = ("launcher", "training", "data", "configs", "examples", "slurm", "bench", "docs", "tests")
LONGEST_MAP = 150
PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(TOP)}|\.ci|\.typecheck)/[\w./*-]*(?<![.*])")
RUN_FOLDER = {"slurm/setup.sh", "slurm/jobs.jsonl", "slurm/job-"}
"""Paths in a run folder, whose ``slurm/`` is not that of the sources."""


def _text(document: str) -> str:
    return (ROOT / document).read_text()


def _tree() -> set[str]:
    """The folders of the README's tree, as ``launcher/cli``."""
    block = re.search(r"## The source tree\n\n```\n(.*?)```", _text("README.md"), re.DOTALL)
    assert block is not None
    found, top = set(), ""
    for line in block[1].splitlines():
        row = re.fullmatch(r"( *)(\w+)/ +\S.*", line)
        assert row is not None, line
        indent, name = row.groups()
        top = top if indent else name
        found.add(f"{top}/{name}" if indent else name)
    return found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_is_named_exists(document: str) -> None:
    paths = set(PATH.findall(_text(document))) - RUN_FOLDER
    assert paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_the_tree_names_every_package_that_exists() -> None:
    packages = {
        str(path.parent.relative_to(ROOT))
        for top in ("launcher", "training", "data")
        for path in (ROOT / top).rglob("__init__.py")
        if "_root" not in path.parts
    }
    assert {room for room in _tree() if room.split("/")[0] in ("launcher", "training", "data")} == packages


def test_the_tree_names_every_folder_of_the_repository_that_is_meant_to_be_read() -> None:
    assert {room for room in _tree() if "/" not in room} == set(TOP)


def test_the_map_fits_on_two_screens_and_is_linked() -> None:
    assert len(_text("docs/architecture.md").splitlines()) <= LONGEST_MAP
    for document in ("README.md", "CONTRIBUTING.md"):
        assert "docs/architecture.md" in _text(document)


def test_the_documents_tell_the_hang_limit_that_holds() -> None:
    text = _text("docs/guarantees.md")
    assert f"`--hang-timeout` seconds ({SupervisionOptions.hang_timeout:g}; 0: never)" in text
    assert f"`--grace` seconds ({SupervisionOptions.grace:g})" in text


def test_the_parts_of_the_exhaustive_suite_are_all_rooms_of_tests_once() -> None:
    (row,) = re.findall(
        r"^\| `\.venv/bin/pytest -m exhaustive` \|(.*)$", _text("CONTRIBUTING.md"), re.MULTILINE
    )
    parts = re.findall(r"tests/\w+", row.partition("In parts")[2])
    rooms = {path.relative_to(ROOT).parts[1] for path in (ROOT / "tests").rglob("test_*.py")}
    assert sorted(parts) == sorted(f"tests/{room}" for room in rooms)

"""Files that commands write: what is refused before the work, what is left after it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.console.output_file import new_file

PNG = (".png", ".svg")


def _made(out: Path, *, force: bool = False) -> None:
    with new_file(out, PNG, force=force) as temporary:
        temporary.write_text("new")


def test_a_file_is_whole_or_not_there_and_its_folders_are_made(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "x.PNG"
    with suppress(ZeroDivisionError), new_file(out, PNG, force=False) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == ".PNG"
        raise ZeroDivisionError
    assert list(out.parent.iterdir()) == []
    _made(out)
    assert [(path.name, path.read_text()) for path in out.parent.iterdir()] == [("x.PNG", "new")]


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("exp.yaml", "exp.yaml: not a .png or .svg file", "/exp.png, say"),
        ("there.png", "there.png is there already", "--force"),
        ("link.png", "link.png is there already", "--force"),
        ("folder.png", "folder.png: a folder", "/folder.png/new.png"),
        ("there.png/x.png", "there.png is a file, not a folder", "in a folder of yours"),
        ("there.png/a/x.png", "there.png is a file, not a folder", "in a folder of yours"),
        (f"{'x' * 300}.png", "File name too long", "in a folder of yours"),
    ],
)
def test_what_must_not_be_written_is_refused_before_any_work(
    name: str, said: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "there.png").write_text("precious")
    (tmp_path / "link.png").symlink_to("nowhere")
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError) as refused, new_file(tmp_path / name, PNG, force=False):
        pytest.fail("the work was begun")
    assert (said in refused.value.message, hint in refused.value.hint) == (True, True), refused.value
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.png").read_text() == "precious"


def test_a_file_that_came_meanwhile_is_replaced_only_if_that_was_asked(tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    with pytest.raises(UsageError, match="there already"), new_file(out, PNG, force=False):
        out.write_text("another's")
    assert out.read_text() == "another's"
    _made(out, force=True)
    assert out.read_text() == "new"
    assert os.listdir(tmp_path) == ["x.png"]  # noqa: PTH208 - hidden files, too


def test_a_folder_stays_a_folder_with_force(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a folder"):
        _made(tmp_path, force=True)

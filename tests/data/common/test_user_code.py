from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lockstep.data.common.errors import DamagedError, TrainingError, UsageError
from lockstep.data.common.user_code import load_callable, module_name_for_users


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_relative_to_the_config(tmp_path: Path) -> None:
    write(tmp_path, "sub/mine.py", "def data():\n    return 3\n")
    assert load_callable("./sub/mine.py:data", tmp_path)() == 3


def test_an_absolute_file(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.py", "def data():\n    return 4\n")
    assert load_callable(f"{path}:data", Path("/"))() == 4


def test_one_file_is_one_module(tmp_path: Path) -> None:
    write(tmp_path, "mine.py", "class A: pass\nclass B: pass\n")
    one, two = (load_callable(f"./mine.py:{name}", tmp_path) for name in "AB")
    assert one.__module__ == two.__module__
    assert sys.modules[one.__module__].A is one


def test_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path, f"{number}/mine.py", f"def data():\n    return {number}\n")
    assert [load_callable(f"./{n}/mine.py:data", tmp_path)() for n in (1, 2)] == [1, 2]


def test_users_know_a_module_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "my_exp.py").write_text("class Sample: pass\n")
    sample = load_callable("./my_exp.py:Sample", tmp_path)
    assert module_name_for_users(sample.__module__) == "my_exp"
    assert module_name_for_users("PIL.Image") == "PIL.Image"


def test_a_module_next_to_the_config(tmp_path: Path) -> None:
    write(tmp_path, "pkg_next_to_config/__init__.py", "")
    write(tmp_path, "pkg_next_to_config/inner.py", "def data():\n    return 5\n")
    assert load_callable("pkg_next_to_config.inner:data", tmp_path)() == 5


def test_a_file_finds_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path, "neighbour_of_mine.py", "VALUE = 6\n")
    write(tmp_path, "mine.py", "from neighbour_of_mine import VALUE\ndef data():\n    return VALUE\n")
    assert load_callable("./mine.py:data", tmp_path)() == 6


def test_user_files_never_shadow_installed_ones(tmp_path: Path) -> None:
    write(tmp_path, "textwrap.py", "raise RuntimeError('shadowed')\n")
    sys.modules.pop("textwrap", None)
    assert load_callable("textwrap:dedent", tmp_path)("  a") == "a"
    assert sys.path[0] != str(tmp_path)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ("./mine.py", "'./mine.py' names no callable"),
        (":data", "':data' names no callable"),
        ("./mine.py:not a name", "names no callable"),
        ("./mines.py:data", "mines.py, did you mean 'mine.py'?"),
        ("./mine.py:dota", "mine.py has no 'dota', did you mean 'data'?"),
        ("./mine.py:NUMBER", "./mine.py:NUMBER is int, which cannot be called"),
        ("./mine.py:NOTHING", "./mine.py:NOTHING is NoneType, which cannot be called"),
        ("mien_of_config:data", "there is no module 'mien_of_config'"),
        ("mine_of_confg:data", "there is no module 'mine_of_confg' for 'mine_of_confg', did you mean"),
        ("json.decoda:x", "there is no module 'json.decoda' for 'json.decoda', did you mean 'decoder'?"),
        ("json:dumpz", "has no 'dumpz', did you mean 'dump"),
    ],
)
def test_wrong_names(tmp_path: Path, use: str, message: str) -> None:
    write(tmp_path, "mine.py", "NUMBER = 3\nNOTHING = None\ndef data():\n    pass\n")
    write(tmp_path, "mine_of_config.py", "")
    with pytest.raises(UsageError) as caught:
        load_callable(use, tmp_path)
    assert message in caught.value.message
    assert caught.value.hint
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("use", ["./broken_{}.py:data", "broken_{}:data"])
@pytest.mark.parametrize(
    ("number", "text", "message"),
    [
        (1, "x = 1\ny = 1 / 0\n", "broken_1.py:2): ZeroDivisionError: division by zero"),
        (2, "def f(:\n", "broken_2.py:1): SyntaxError"),
        (3, "import no_such_module_anywhere\n", "broken_3.py:1): ModuleNotFoundError: No module named"),
        (4, "\n\nraise SystemExit(3)\n", "broken_4.py:3): SystemExit: 3"),
        (5, "import json\njson.loads('{')\n", "broken_5.py:2): json.decoder.JSONDecodeError"),
    ],
)
def test_a_module_that_raises(tmp_path: Path, use: str, number: int, text: str, message: str) -> None:
    path = write(tmp_path, f"broken_{number}.py", text)
    sys.modules.pop(path.stem, None)
    with pytest.raises(TrainingError) as caught:
        load_callable(use.format(number), tmp_path)
    assert message in caught.value.message
    assert caught.value.__cause__ is not None
    assert caught.value.exit_status == 1


def test_a_file_that_raised_is_imported_afresh(tmp_path: Path) -> None:
    path = write(tmp_path, "late.py", "1 / 0\n")
    with pytest.raises(TrainingError):
        load_callable("./late.py:data", tmp_path)
    path.write_text("def data():\n    return 'corrected'\n")
    os.utime(path, ns=(1, 1))  # else Python may take the compiled file of the same second
    assert load_callable("./late.py:data", tmp_path)() == "corrected"


def test_errors_for_people_pass_unchanged(tmp_path: Path) -> None:
    write(
        tmp_path,
        "own.py",
        "from lockstep.data.common.errors import DamagedError\nraise DamagedError('mine')\n",
    )
    with pytest.raises(DamagedError, match=r"^mine$"):
        load_callable("./own.py:data", tmp_path)

"""Room for the open files of as many ranks as were asked for."""

from __future__ import annotations

import pytest

from tests.helpers.file_limits import run_under_file_limit

MAKE = (
    "import resource\n"
    "from lockstep.launcher.machine.file_limit import make_room_for_files\n"
    "try:\n"
    "    print(make_room_for_files({processes}))\n"
    "except Exception as error:\n"
    "    print(type(error).__name__, error.message, error.hint, sep='; ')\n"
    "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
)


@pytest.mark.parametrize(
    ("soft", "hard", "said", "left"),
    [
        (384, 384, "", 384),
        (256, 4096, "the limit of open files (ulimit -n) is raised from 256 to 4,096 for 64 processes", 4096),
        (
            256,
            300,
            "MachineError; 64 processes need 384 open files, and `ulimit -n` allows 300; use fewer processes,",
            256,
        ),
    ],
)
def test_the_soft_limit_is_raised_where_that_helps(soft: int, hard: int, said: str, left: int) -> None:
    found, limit = run_under_file_limit(soft, hard, MAKE.format(processes=64))
    assert found[: len(said)] == said
    assert bool(found) == bool(said)
    assert limit == str(left)

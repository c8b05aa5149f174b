"""High numbers of open files fit below a low limit."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

FIND = (
    "import os\n"
    "from lockstep.launcher.process.stack_dumps import duplicate_high\n"
    "taken = duplicate_high(1), duplicate_high(1, 200)\n"
    "print(*taken, *(os.get_inheritable(number) for number in taken))\n"
)


def _under(soft: int, hard: int, code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(("limit", "taken"), [(1024, "100 200"), (200, "100 101"), (70, "50 51")])
def test_a_high_number_is_as_high_as_the_limit_allows(limit: int, taken: str) -> None:
    assert _under(limit, limit, FIND) == [f"{taken} False False"]

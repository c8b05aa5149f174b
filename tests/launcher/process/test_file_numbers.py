"""High numbers of open files fit below a low limit."""

from __future__ import annotations

import pytest

from tests.helpers.file_limits import run_under_file_limit

FIND = (
    "import os\n"
    "from lockstep.launcher.process.stack_dumps import duplicate_high\n"
    "taken = duplicate_high(1), duplicate_high(1, 200)\n"
    "print(*taken, *(os.get_inheritable(number) for number in taken))\n"
)


@pytest.mark.parametrize(("limit", "taken"), [(1024, "100 200"), (200, "100 101"), (70, "50 51")])
def test_a_high_number_is_as_high_as_the_limit_allows(limit: int, taken: str) -> None:
    assert run_under_file_limit(limit, limit, FIND) == [f"{taken} False False"]

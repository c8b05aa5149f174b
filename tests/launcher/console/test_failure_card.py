from __future__ import annotations

import pytest

from lockstep.data.common.errors import LockstepError, UsageError
from lockstep.launcher.console.failure_card import card_lines, last_card, print_failure_card, read_card


def test_a_card_says_what_happened_then_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    print_failure_card(UsageError("first\nsecond", "do this"))
    print_failure_card(UsageError("no hint"))
    assert capsys.readouterr().err == "error: first\n  second\nhint: do this\nerror: no hint\n"


@pytest.mark.parametrize(
    "error",
    [
        UsageError("one line"),
        UsageError("one", "a hint"),
        LockstepError("first\nsecond\n  at a.py:3", "do this"),
    ],
)
def test_a_card_at_the_end_of_a_log_is_read_back(error: LockstepError) -> None:
    log = [
        "epoch 1",
        *card_lines(UsageError("an earlier one", "of no use")),
        "note: again",
        *card_lines(error),
    ]
    assert last_card(log) == card_lines(error)
    assert read_card(last_card(log)) == (error.message, error.hint)


def test_a_log_without_a_card_has_neither_message_nor_hint() -> None:
    assert last_card(["epoch 1", "note: an error: no"]) == []
    assert read_card([]) == ("", "")

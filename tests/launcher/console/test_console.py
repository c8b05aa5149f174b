from __future__ import annotations

import json

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.console.console import (
    bounded,
    print_json,
    print_messages,
    print_results,
    strip_control_characters,
)
from lockstep.launcher.console.failure_card import print_failure_card


@pytest.mark.parametrize("text", ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\r", "\x00", "\x7f", "\b\b"])
def test_no_control_character_reaches_the_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_messages([f"a{text}b"])
    print_results([f"a{text}b"])
    print_failure_card(UsageError(f"a{text}b\nc", f"d{text}e"))
    for stream in capsys.readouterr():
        assert not [letter for letter in stream if ord(letter) < 32 and letter != "\n"]
        assert "\x1b" not in stream
        assert not [letter for letter in stream if 127 <= ord(letter) < 160]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[38;2;1;2;3;1mbold\x1b[m", "bold"),
        ("\x9b31mred\x9b0m", "red"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x07", "link"),
        ("\x1b]0;title\x07words", "words"),
        ("\x1bP1$r0m\x1b\\words\x1b_G\x1b\\", "words"),
        ("\x1b(Bwords\x1bM\x1b7", "words"),
        ("\x1b[?25lwords\x1b[1A\x1b[2K", "words"),
        ("words\x1b[38;5", "words"),  # cut off
        ("words\x1b]8;;https://exa", "words"),
        ("words\x1b", "words"),
        ("\x1b]never ended\nwords", "\nwords"),
        ("[31m is no sequence", "[31m is no sequence"),
    ],
)
def test_a_sequence_goes_as_a_whole_with_what_it_carries(text: str, left: str) -> None:
    assert strip_control_characters(text) == left


@pytest.mark.parametrize(
    ("unfinished", "kept"),
    [
        (b"short", b"short"),
        (b"10 %\r20 %\r30 %", b"30 %"),
        (b"10 %\r20 %\r30 %\r", b"30 %\r"),  # what follows replaces it
        (b"\x1b[31m" + 20 * b"x", b"\x1b[31mxxxxx"),
    ],
)
def test_a_line_that_never_ends_is_kept_up_to_a_limit(unfinished: bytes, kept: bytes) -> None:
    assert bounded(unfinished, 10) == kept


def test_words_and_their_lines_stay_as_they_are() -> None:
    assert strip_control_characters("Ümläut 数据\tx\ny") == "Ümläut 数据\tx\ny"


def test_json_is_one_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "a\x1b[2J", "value": 0.1})
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"name": "a\x1b[2J", "value": 0.1}, "")
    assert "\x1b" not in out

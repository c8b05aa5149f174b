from __future__ import annotations

import json

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.console.console import put, put_json, say, strip_control_characters
from lockstep.launcher.console.failure_card import print_failure_card


@pytest.mark.parametrize("text", ["\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\r", "\x00", "\x7f", "\b\b"])
def test_no_control_character_reaches_the_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say([f"a{text}b"])
    put([f"a{text}b"])
    print_failure_card(UsageError(f"a{text}b\nc", f"d{text}e"))
    for stream in capsys.readouterr():
        assert not [letter for letter in stream if ord(letter) < 32 and letter != "\n"]
        assert "\x1b" not in stream
        assert not [letter for letter in stream if 127 <= ord(letter) < 160]


def test_words_and_their_lines_stay_as_they_are() -> None:
    assert strip_control_characters("Ümläut 数据\tx\ny") == "Ümläut 数据\tx\ny"


def test_json_is_one_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    put_json({"name": "a\x1b[2J", "value": 0.1})
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"name": "a\x1b[2J", "value": 0.1}, "")
    assert "\x1b" not in out

from __future__ import annotations

import io
import os
import pty
import struct
import sys
import termios
from collections.abc import Iterator
from fcntl import ioctl
from typing import TextIO

import pytest

from lockstep.launcher.console.console import fold, known_width, print_card, print_messages


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """A terminal of 40 columns."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with os.fdopen(slave, "w") as stream, os.fdopen(master, "rb", buffering=0) as shown:
        stream.shown = shown  # type: ignore[attr-defined]
        monkeypatch.delenv("COLUMNS", raising=False)
        yield stream


def test_the_width_is_asked_for_or_a_terminals_and_of_a_pipe_there_is_none(
    terminal: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert known_width(terminal) == 40
    assert known_width(io.StringIO()) is None
    for asked, width in (("72", 72), ("0", 40), ("wide", 40)):
        monkeypatch.setenv("COLUMNS", asked)
        assert known_width(terminal) == width
    monkeypatch.setenv("COLUMNS", "72")
    assert known_width(io.StringIO()) == 72


@pytest.mark.parametrize(
    ("line", "folded"),
    [
        ("one two three four", ["one two", "  three", "  four"]),
        ("  at one two three", ["  at one", "    two", "    three"]),
        ("end it: `launch stop first` now", ["end it:", "  `launch stop first`", "  now"]),
        ("a/very/long/path-that-stays and", ["a/very/long/path-that-stays", "  and"]),
        ("ten chars.", ["ten chars."]),
    ],
)
def test_lines_fold_at_spaces_and_a_command_stays_whole(line: str, folded: list[str]) -> None:
    assert [*fold([line], 10)] == folded
    assert [*fold([line], None)] == [line]


def test_messages_and_cards_fold_in_a_terminal_and_are_whole_in_a_file(
    terminal: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    said = ["note: " + "word " * 20 + "end", "  at a place: " + "x" * 10 + " " + "y" * 30]
    for show in (print_messages, print_card):
        with monkeypatch.context() as there:
            there.setattr(sys, "stderr", terminal)
            show(said)
        shown = terminal.shown.read(10_000).decode().splitlines()  # type: ignore[attr-defined]
        assert max(map(len, shown)) <= 40
        assert " ".join(" ".join(shown).split()) == " ".join(" ".join(said).split())
        with monkeypatch.context() as piped:
            piped.setattr(sys, "stderr", kept := io.StringIO())
            show(said)
        assert kept.getvalue().splitlines() == said

"""Marks in a stream are found wherever a read cuts it, and nothing else of it changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lockstep.launcher.process.output_marks import Mark, MarkedStream

TEXT = (
    b"works\n\x1b[31m"
    + Mark.ERROR.value
    + b"Traceback\n\x1b\\"
    + Mark.END.value
    + b"\x1b_other\x1b\\ bye\x1b"
)
PARTS = [b"works\n\x1b[31m", Mark.ERROR, b"Traceback\n\x1b\\", Mark.END, b"\x1b_other\x1b\\ bye\x1b"]


def joined(parts: list[bytes | Mark]) -> list[bytes | Mark]:
    """The parts, with those that a read has cut in one."""
    whole: list[bytes | Mark] = []
    for part in parts:
        if isinstance(part, bytes) and whole and isinstance(whole[-1], bytes):
            whole[-1] += part
        else:
            whole.append(part)
    return whole


def rest_of(stream: MarkedStream) -> list[bytes | Mark]:
    rest = stream.rest()
    return [rest] if rest else []


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, len(TEXT)])
def test_reads_of_any_size_give_the_same(size: int) -> None:
    stream = MarkedStream()
    pieces = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    parts = [part for piece in pieces for part in stream.split(piece)]
    assert joined([*parts, *rest_of(stream)]) == PARTS


def test_a_cut_at_any_place_gives_the_same() -> None:
    for at in range(len(TEXT)):
        stream = MarkedStream()
        parts = [*stream.split(TEXT[:at]), *stream.split(TEXT[at:])]
        assert joined([*parts, *rest_of(stream)]) == PARTS


def test_only_the_beginning_of_a_mark_waits() -> None:
    stream = MarkedStream()
    assert stream.split(b"10 %\r\x1b_lockstep:er") == [b"10 %\r"]
    assert stream.rest() == b"\x1b_lockstep:er"
    assert stream.split(b"\x1b[2K20 %") == [b"\x1b[2K20 %"]


ENDING = """
import os, sys
from lockstep.launcher.process.output_marks import Mark, allow_marks, last_words
{allow}
{other}
with last_words(Mark.ERROR):
    print("words", file=sys.stderr)
"""
ELSEWHERE = "os.dup2(os.open('other', os.O_WRONLY | os.O_CREAT), 2)"


def printed(tmp_path: Path, *, allow: str = "allow_marks()", other: str = "") -> bytes:
    code = ENDING.format(allow=allow, other=other)
    return subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, check=False
    ).stderr


def test_a_block_is_marked_on_the_stderr_that_a_supervisor_reads(tmp_path: Path) -> None:
    assert printed(tmp_path) == Mark.ERROR.value + b"words\n" + Mark.END.value


def test_no_other_stderr_gets_a_mark(tmp_path: Path) -> None:
    assert printed(tmp_path, allow="") == b"words\n"
    assert printed(tmp_path, other=ELSEWHERE) == b""
    assert (tmp_path / "other").read_bytes() == b"words\n"

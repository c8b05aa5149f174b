"""The stream between a host's process and the command."""

from __future__ import annotations

import pytest

from lockstep.launcher.hosts.frames import (
    ERR,
    OUT,
    BrokenStreamError,
    FrameReader,
    control_frame,
    frame,
    hello_line,
    parse_document,
)


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
def test_frames_come_whole_however_they_are_cut_and_a_shell_s_greeting_is_skipped(chunk: int) -> None:
    noise = b"Welcome to b!\n\x1b[1mlockstep\x1b[0m\n"
    sent = (
        noise + hello_line({"version": "1"}) + frame(OUT, b"\0lockstep {}\n") + control_frame({"kind": "met"})
    )
    sent += frame(ERR, b"") + frame(ERR, bytes(range(256)))
    reader, found = FrameReader(), []
    for start in range(0, len(sent), chunk):
        found += list(reader.feed(sent[start : start + chunk]))
    assert reader.hello == {"version": "1"}
    assert [found[0], *found[2:]] == [(OUT, b"\0lockstep {}\n"), (ERR, b""), (ERR, bytes(range(256)))]
    assert parse_document(found[1][1]) == {"kind": "met"}
    assert reader.noise == ""


def test_what_a_shell_says_instead_is_kept_within_bounds() -> None:
    reader = FrameReader()
    assert list(reader.feed(b"x" * 100_000 + b"This account is currently not available.\n")) == []
    assert reader.noise.endswith("This account is currently not available.\n")
    assert len(reader.noise) <= 4096


@pytest.mark.parametrize(
    "data", [b"\x07\0\0\0\1x", frame(OUT, b"")[:1] + b"\xff\xff\xff\xff", b"\0lockstep []\n"]
)
def test_what_is_no_stream_is_refused(data: bytes) -> None:
    reader = FrameReader()
    start = b"" if data.startswith(b"\0lockstep") else hello_line({})
    with pytest.raises(BrokenStreamError):
        list(reader.feed(start + data))


@pytest.mark.parametrize("data", [b"", b"{", b"[1]"])
def test_a_document_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenStreamError):
        parse_document(data)

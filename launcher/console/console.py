"""What people see: plan, progress, epochs as rows, and one card when it goes wrong. The only file that prints."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

from ...data.common import LockstepError

_LARGE = 1000  # above it four decimals are noise
_HUGE = 1e7  # above it a column would not hold it
_ESCAPES = {code: None for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"}


def plain(text: str) -> str:
    """``text`` without control characters, which a terminal would obey."""
    return text.translate(_ESCAPES)


def _write(stream: TextIO | None, text: str) -> bool:
    """Write, whoever is left to read: a closed pipe or a full disk must not end a training. Whether one is."""
    try:
        if stream is not None:
            stream.write(text)
            stream.flush()
    except (OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError, ValueError):
            os.dup2(
                nothing, stream.fileno() if stream is not None else nothing
            )  # nor the interpreter's last flush
        os.close(nothing)
        return False
    return stream is not None


def say(lines: Iterable[str]) -> None:
    """Words for people, on stderr."""
    _write(sys.stderr, "".join(plain(line) + "\n" for line in lines))


def put(lines: Iterable[str]) -> bool:
    """Data, on stdout; whether somebody is left to read it."""
    return _write(sys.stdout, "".join(plain(line) + "\n" for line in lines))


def put_json(document: dict[str, Any], *, on_one_line: bool = False) -> bool:
    """One JSON document on stdout; whether somebody is left to read it."""
    return _write(sys.stdout, json.dumps(document, indent=None if on_one_line else 1) + "\n")


def redraw(lines: Iterable[str]) -> bool:
    """The lines in place of all that is on the terminal; whether it is still there."""
    return _write(sys.stdout, "\x1b[H\x1b[J" + "".join(plain(line) + "\n" for line in lines))


def card(error: LockstepError) -> None:
    """The failure card: what happened and where, then what to do."""
    lines = error.message.split("\n")
    say([f"error: {lines[0]}", *(f"  {line}" for line in lines[1:])])
    if error.hint:
        say([f"hint: {error.hint}"])

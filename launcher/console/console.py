"""Standard output and standard error, which no other file writes to; a reader that is gone never ends a training."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

_CONTROLS = {code: None for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"}
_SEQUENCES = re.compile(  # ECMA-48; one that the end of the text cuts off is one, too
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, the cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"
)


def strip_control_characters(text: str) -> str:
    """Strip control characters, which a terminal would obey, and whole escape sequences with what they carry."""
    return _SEQUENCES.sub("", text).translate(_CONTROLS)


def last_state(line: bytes) -> bytes:
    """Return what a terminal would leave of a line: of a progress bar the last state."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


def bounded(unfinished: bytes, limit: int) -> bytes:
    """Keep at most ``limit`` bytes of a line that may go on, of a progress bar those of its last state."""
    if len(unfinished) <= limit:
        return unfinished
    return unfinished[unfinished.rstrip(b"\r").rfind(b"\r") + 1 :][:limit]


def write(stream: TextIO | None, text: str) -> bool:
    """Write a text and flush it; False where nobody can read it: a closed pipe or a full disk ends no training."""
    try:
        if stream is not None:
            stream.write(text)
            stream.flush()
    except (OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError, ValueError):  # the interpreter's last flush is not to fail either
            os.dup2(nothing, stream.fileno() if stream is not None else nothing)
        os.close(nothing)
        return False
    return stream is not None


def say(lines: Iterable[str]) -> None:
    """Print messages for the user on stderr."""
    write(sys.stderr, "".join(strip_control_characters(line) + "\n" for line in lines))


def put(lines: Iterable[str]) -> bool:
    """Print results on stdout; False where nobody can read them."""
    return write(sys.stdout, "".join(strip_control_characters(line) + "\n" for line in lines))


def put_json(document: dict[str, Any], *, on_one_line: bool = False) -> bool:
    """Print one JSON document on stdout; False where nobody can read it."""
    return write(sys.stdout, json.dumps(document, indent=None if on_one_line else 1) + "\n")


def redraw(lines: Iterable[str]) -> bool:
    """Print the lines in place of all that the terminal shows; False where it is gone."""
    return write(
        sys.stdout, "\x1b[H\x1b[J" + "".join(strip_control_characters(line) + "\n" for line in lines)
    )

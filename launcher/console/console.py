"""Standard output and standard error, which no other file writes to; a reader that is gone never ends a training."""

from __future__ import annotations

import json
import os
import re
import select
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

ERROR, HINT = "error:", "hint:"
"""The first words of a failure card's lines."""
_CONTROLS = {code: None for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"}
_SEQUENCES = re.compile(  # ECMA-48; one that the end of the text cuts off is one, too
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI: colours, the cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]?"
)


_INDENT = 2  # of what follows a fold
_COMMAND = re.compile(r"`[^`\n]*`")
_JOINED = "\x00"  # no line holds one: control characters are stripped
_DEFAULT_WIDTH = 80
_line_is_drawn = False  # of ``draw_line``
_transcript: TextIO | None = None  # of ``transcribe_to``


def strip_control_characters(text: str) -> str:
    """Strip control characters, which a terminal would obey, and whole escape sequences with what they carry."""
    return _SEQUENCES.sub("", text).translate(_CONTROLS)


def last_state(line: bytes) -> bytes:
    """Return what a terminal would leave of a line: of a progress bar the last state."""
    return line.rstrip(b"\r").rpartition(b"\r")[2]


def bounded(unfinished: bytes, limit: int) -> bytes:
    """Keep at most ``limit`` bytes of a line that may be unfinished, of a progress bar those of its last state."""
    if len(unfinished) <= limit:
        return unfinished
    return unfinished[unfinished.rstrip(b"\r").rfind(b"\r") + 1 :][:limit]


def write(stream: TextIO | None, text: str) -> bool:
    """Write a text and flush it; False where nobody can read it: a closed pipe or a full disk ends no training."""
    transcribe(text)
    return _write(stream, text)


def _write(stream: TextIO | None, text: str) -> bool:
    clear_line()
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


def print_messages(lines: Iterable[str]) -> None:
    """Print messages for the user on stderr, folded at the width of a terminal."""
    plain = [strip_control_characters(line) for line in lines]
    transcribe("".join(f"{line}\n" for line in plain))
    _write(sys.stderr, "".join(f"{line}\n" for line in _folded(plain, sys.stderr)))


def _folded(lines: Iterable[str], stream: TextIO | None) -> list[str]:
    """Fold what is to be read; a message may have several lines."""
    return [*fold((part for line in lines for part in line.split("\n")), known_width(stream))]


def known_width(stream: TextIO | None) -> int | None:
    """Return how many characters a line may have: ``COLUMNS``, else what a terminal says; None for a file or a pipe."""
    with suppress(ValueError):
        if (asked := int(os.environ.get("COLUMNS", "0"))) > 0:
            return asked
    with suppress(OSError, ValueError, AttributeError):
        return os.get_terminal_size(stream.fileno()).columns or None if stream is not None else None
    return None


def fold(lines: Iterable[str], width: int | None) -> Iterator[str]:
    """Fold lines at spaces, further ones indented; a command in backticks stays whole, to be copied.

    Args:
        lines: without control characters.
        width: of a line; None leaves all of them whole.
    """
    for line in lines:
        if width is None or len(line) <= width:
            yield line
            continue
        indent = " " * (len(line) - len(line.lstrip()) + _INDENT)
        joined = _COMMAND.sub(lambda found: found[0].replace(" ", _JOINED), line)
        for part in textwrap.wrap(
            joined,
            width,
            subsequent_indent=indent,
            break_on_hyphens=False,
            break_long_words=False,
        ):
            yield part.replace(_JOINED, " ")


def print_card(lines: Iterable[str]) -> None:
    """Print an error on stderr; on a terminal with colours its first words stand out."""
    plain = [strip_control_characters(line) for line in lines]
    transcribe("".join(f"{line}\n" for line in plain))
    folded = _folded(plain, sys.stderr)
    shown = map(_highlighted, folded) if can_colour(sys.stderr) else folded
    _write(sys.stderr, "".join(f"{line}\n" for line in shown))


def _highlighted(line: str) -> str:
    for word, style in ((ERROR, "1;31"), (HINT, "1")):
        if line.startswith(word):
            return f"\x1b[{style}m{word}\x1b[0m{line.removeprefix(word)}"
    return line


def print_explained(lines: Iterable[str]) -> bool:
    """Print results in sentences on stdout, folded at the width of a terminal; False where nobody can read them."""
    return print_results(_folded(map(strip_control_characters, lines), sys.stdout))


def print_results(lines: Iterable[str]) -> bool:
    """Print results on stdout; False where nobody can read them."""
    return write(sys.stdout, "".join(strip_control_characters(line) + "\n" for line in lines))


def print_json(document: dict[str, Any], *, on_one_line: bool = False) -> bool:
    """Print one JSON document on stdout; False where nobody can read it."""
    return _write(sys.stdout, json.dumps(document, indent=None if on_one_line else 1) + "\n")


def print_page(lines: Iterable[str]) -> bool:
    """Print lines of our own on stdout as they are, with their colours; False where nobody can read them."""
    return _write(sys.stdout, "".join(line + "\n" for line in lines))


def can_colour(stream: TextIO | None) -> bool:
    """Tell whether a stream is a terminal that shows colours, and the user has not said NO_COLOR (no-color.org)."""
    with suppress(OSError, ValueError):
        is_terminal = stream is not None and stream.isatty()
        return is_terminal and os.environ.get("TERM", "dumb") != "dumb" and not os.environ.get("NO_COLOR")
    return False


def terminal_width() -> int:
    """Return how many characters a line may have: ``COLUMNS``, else what the terminal says, else 80."""
    return known_width(sys.stdout) or _DEFAULT_WIDTH


def redraw(lines: Iterable[str]) -> bool:
    """Print the lines in place of all that the terminal shows; False where it is gone."""
    return _write(
        sys.stdout, "\x1b[H\x1b[J" + "".join(strip_control_characters(line) + "\n" for line in lines)
    )


def transcribe_to(path: Path | None) -> None:
    """Keep what is printed from now on in this file as well, or no longer."""
    global _transcript  # noqa: PLW0603 - a process has one terminal, and one record of it
    if _transcript is not None:
        with suppress(OSError):
            _transcript.close()
    _transcript = None
    with suppress(OSError):
        _transcript = path.open("a", encoding="utf-8") if path is not None else None


def transcribe(text: str) -> None:
    """Add a text to the record of the terminal, where one is kept, and print nothing."""
    if _transcript is not None:
        with suppress(OSError, ValueError):
            _transcript.write(text)
            _transcript.flush()


def can_draw_line() -> bool:
    """Tell whether stderr is a terminal whose last line can be overwritten."""
    with suppress(OSError, ValueError):
        terminal = sys.stderr is not None and sys.stderr.isatty()
        return terminal and os.environ.get("TERM", "dumb") != "dumb"
    return False


def line_width() -> int:
    """Return how many characters a drawn line may have; one more would begin the next."""
    with suppress(OSError, ValueError):
        return (os.get_terminal_size(sys.stderr.fileno()).columns or _DEFAULT_WIDTH) - 1
    return _DEFAULT_WIDTH - 1


def draw_line(text: str) -> None:
    """Overwrite the terminal's last line, which whatever is printed next clears."""
    global _line_is_drawn  # noqa: PLW0603 - a terminal has one last line
    encoding = sys.stderr.encoding or "ascii"
    shown = strip_control_characters(text)[: line_width()].encode(encoding, "replace").decode(encoding)
    _line_is_drawn = _overwrite(shown) or _line_is_drawn


def clear_line() -> None:
    """Clear what ``draw_line`` has drawn."""
    global _line_is_drawn  # noqa: PLW0603 - a terminal has one last line
    if _line_is_drawn:
        _line_is_drawn = False
        _overwrite("")


def _overwrite(text: str) -> bool:
    """Write over the last line, unless the terminal is stopped: nothing is to wait for that."""
    with suppress(OSError, ValueError):
        if select.select([], [sys.stderr], [], 0)[1]:
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()
            return True
    return False

"""The README's blocks, and the sessions in it."""

from __future__ import annotations

import re
import shlex

from tests.helpers.paths import ROOT

README = (ROOT / "README.md").read_text()
VARYING = re.compile(r"[\d,.]+ +[\d.]+$")  # samples/s and seconds at the end of a row


def blocks(language: str) -> list[str]:
    """The blocks of this language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands(session: str) -> list[tuple[list[str], list[str]]]:
    """Each command of a session with the lines that it is said to print."""
    parts = re.split(r"^\$ launch ", session, flags=re.MULTILINE)[1:]
    return [(shlex.split(lines[0]), lines[1:]) for lines in (part.splitlines() for part in parts)]


def shape(line: str) -> str:
    """A line without what differs from machine to machine: figures, and how many cores there are."""
    return re.sub(r"\d[\d,.]*%?", "0", re.sub(r" +", " ", VARYING.sub("", line))).strip()


def lines_that_are_missing(shown: list[str], printed: str) -> list[str]:
    """Those of a session's lines, notes left out, that were not printed in their shape."""
    found = {shape(line) for line in printed.splitlines()}
    return [line for line in map(shape, shown) if not line.startswith("note: ") and line not in found]

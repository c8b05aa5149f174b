"""The README, and what its sessions print."""

from __future__ import annotations

import re

from tests.helpers.paths import ROOT

README = (ROOT / "README.md").read_text()
FOLDED = re.compile(r"  \S")
HASH = re.compile(r"\b[0-9a-f]{64}\b")
CURVE = re.compile(r"[\u2800-\u28ff][\u2800-\u28ff ]*")  # one dot more or less, where a value is between two
VARYING = re.compile(r"[\d,.]+ +[\d.]+$")  # samples/s and seconds at the end of a row


def shape(line: str) -> str:
    """A line without what differs from machine to machine: figures, and how many cores there are."""
    return re.sub(
        r"\d[\d,.]*%?", "0", re.sub(r" +", " ", HASH.sub("HASH", CURVE.sub("CURVE", VARYING.sub("", line))))
    ).strip()


def unfolded(lines: list[str]) -> list[str]:
    """Lines as they were before they were folded at a terminal's width."""
    found: list[str] = []
    for line in lines:
        if found and FOLDED.match(line):
            found[-1] += f" {line.strip()}"
        else:
            found.append(line)
    return found


def lines_that_are_missing(shown: list[str], printed: str) -> list[str]:
    """Those of a session's lines, notes left out, that were not printed in their shape, however both are folded."""
    found = {shape(line) for line in unfolded(printed.splitlines())}
    told = map(shape, unfolded(shown))
    return [line for line in told if not line.startswith("note: ") and line not in found]

"""The blocks of code in the documents, and which of them say why they do not run in a test.

A block that cannot run where the tests do has ``<!-- not run: WHY -->`` in front of it.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from tests.helpers.paths import ROOT

PAGES = ("README.md", "slurm/README.md", *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")))
SHELL = ("bash", "sh", "console")
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: ([^>]+?) -->\n\s*\Z")
_SPAN = re.compile(r"`(launch [^`]+)`")


class Block(NamedTuple):
    """One block of a page."""

    page: str
    number: int
    """Of the page's blocks, from 1 on."""
    language: str
    text: str
    why_not: str
    """Why it does not run in a test; empty where it does."""

    @property
    def name(self) -> str:
        """What a test calls it."""
        return f"{self.page}:{self.number}-{self.language}"

    def commands(self) -> list[str]:
        """The lines that a shell gets: of a session those behind the prompt."""
        lines = self.text.splitlines()
        if self.language == "console":
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip()]

    def session(self) -> list[tuple[str, list[str]]]:
        """Each command of a session with the lines that it is said to print."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        return [(lines[0], lines[1:]) for lines in map(str.splitlines, parts)]


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page that name a language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for number, fence in enumerate(_FENCE.finditer(text), 1):
        why = _NOT_RUN.search(text[: fence.start()])
        body = textwrap.dedent(fence[3])
        found.append(Block(page, number, fence[2], body, why[1] if why else ""))
    return found


def blocks(*languages: str) -> list[Block]:
    """The blocks of all pages in these languages."""
    return [block for page in PAGES for block in blocks_of(page) if block.language in languages]


def launch_lines(command: str) -> Iterator[list[str]]:
    """The arguments of each ``launch`` in a line of a shell, whatever starts it."""
    for part in re.split(r"&&|;|\|", command):
        words = shlex.split(part, comments=True)
        places = [at for at, word in enumerate(words) if word.rpartition("/")[2] == "launch"]
        if places:
            yield [word for word in words[places[0] + 1 :] if word != "&"]


def launch_spans(page: str) -> list[str]:
    """The commands that the page's sentences name in backticks."""
    text = _FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    return [span.replace("\n", " ").replace("\\|", "|") for span in _SPAN.findall(text)]

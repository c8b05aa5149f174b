"""What the launches of all hosts print, as one text: node 0's as it comes, and of the others what it does not say."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from ..console import last_card
from .connection import Connection
from .frames import ERR

_OF_A_RANK = re.compile(r"\[ranks? [\d,-]+\] ")
_ECHO = re.compile(r"ended as node 0 did, with status \d+")
_TAIL_LINES = 200
_LONGEST_LINE = 20_000


class View(Protocol):
    """A view that shows lines, as the one of a launch's ranks does."""

    def feed(self, rank: int, stream: int, data: bytes) -> None:
        """Show some bytes of a node; node 0's as they are."""

    def tick(self, notes: list[str]) -> None:
        """Show what has waited for long enough, and take the notes that there are."""

    def close(self) -> None:
        """Show the rest."""


def host_label(names: Sequence[str]) -> Callable[[Sequence[int], str], str]:
    """Return what writes a line that some nodes, but not node 0, have printed, with the names of their hosts."""

    def label(nodes: Sequence[int], text: str) -> str:
        return text if _OF_A_RANK.match(text) else f"[{', '.join(names[node] for node in nodes)}] {text}"

    return label


class HostOutputs:
    """The view of all hosts.

    Node 0's stdout and stderr stay what they are. The lines of other nodes go to stderr: with their host's name, or
    with the numbers of their ranks alone, where they have some. Every node ends with the same failure card; node 0's
    is shown, and the others' are kept for the case that it has none.

    Args:
        view: shows them.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._partial: dict[tuple[int, int], bytes] = {}
        self._tails: dict[int, list[str]] = {}

    def take(self, connection: Connection, stream: int, data: bytes) -> None:
        """Take some bytes that a host's launch has printed."""
        node = connection.node
        if node == 0:
            self._view.feed(0, stream, data)
        *lines, rest = (self._partial.get((node, stream), b"") + data).split(b"\n")
        self._partial[node, stream] = rest[-_LONGEST_LINE:]
        for line in lines:
            self._take_line(node, stream, line)

    def _take_line(self, node: int, stream: int, line: bytes) -> None:
        tail = self._tails.setdefault(node, [])
        if stream == ERR:
            tail.append(line.decode(errors="replace"))
            del tail[:-_TAIL_LINES]
        if node and not (stream == ERR and (last_card(tail) or _ECHO.fullmatch(tail[-1]))):
            self._view.feed(node, stream, line + b"\n")

    def card(self, node: int) -> list[str]:
        """Return the failure card that a node has ended with; empty without one."""
        return last_card(self._tails.get(node, []))

    def tick(self, notes: list[str]) -> None:
        """Show what has waited for long enough, and take the notes that there are."""
        self._view.tick(notes)

    def close(self) -> None:
        """Show the rest."""
        for (node, stream), rest in self._partial.items():
            if rest:
                self._take_line(node, stream, rest)
        self._view.close()

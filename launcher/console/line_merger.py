"""What several ranks wrote, as one text: a line that several of them wrote stands there once, with their ranks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

WINDOW = 1000  # lines; ranks that write the same are at most this far apart, or are shown apart


@dataclass
class _Line:
    text: str
    ranks: set[int] = field(default_factory=set)


@dataclass
class _TextQueue:
    """Lines of one text. What a rank has written of those that wait are the first ones, without a gap."""

    waiting: deque[_Line] = field(default_factory=deque)
    given: int = 0
    """How many were given out."""
    written: dict[int, int] = field(default_factory=dict)
    """How many a rank had, those that were given out included, at its last one."""

    def next_of(self, rank: int) -> _Line | None:
        """The one that a rank's next line joins; None where it is a line of its own."""
        position = max(self.written.get(rank, 0) - self.given, 0)
        self.written[rank] = self.given + position + 1
        return self.waiting[position] if position < len(self.waiting) else None


class LineMerger:
    """Takes lines of each rank in their order, and gives them out in the order in which they first came.

    A rank's line joins the first line of the same text that waits and that this rank has not written; two equal
    lines of one rank stay two.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Line] = deque()
        self._by_text: dict[str, _TextQueue] = {}
        self.fresh = 0
        """Lines that wait since the last call of ``ready``."""

    def feed(self, rank: int, text: str) -> None:
        """One line of a rank, without its end."""
        same = self._by_text.setdefault(text, _TextQueue())
        line = same.next_of(rank)
        if line is None:
            line = _Line(text)
            same.waiting.append(line)
            self._waiting.append(line)
            self.fresh += 1
        line.ranks.add(rank)

    def feed_in_turns(self, streams: Mapping[int, Iterable[str]]) -> Iterator[None]:
        """Lines of all ranks, one of each at a time: nothing says when each was written."""
        turns = {rank: iter(lines) for rank, lines in streams.items()}
        while turns:
            for rank, lines in list(turns.items()):
                text = next(lines, None)
                if text is None:
                    del turns[rank]
                else:
                    self.feed(rank, text)
            yield

    def ready(self, keep: int = WINDOW) -> Iterator[tuple[str, list[int]]]:
        """The oldest lines, each with its ranks, down to ``keep`` that other ranks may still join."""
        self.fresh = 0
        while len(self._waiting) > min(keep, WINDOW):
            line = self._waiting.popleft()
            same = self._by_text[line.text]
            same.waiting.popleft()  # equal lines wait in the order in which they came
            same.given += 1
            if not same.waiting:
                del self._by_text[line.text]
            yield line.text, sorted(line.ranks)


def merged(streams: Mapping[int, Iterable[str]]) -> Iterator[tuple[str, list[int]]]:
    """The lines of files that are complete, each with its ranks."""
    merger = LineMerger()
    for _ in merger.feed_in_turns(streams):
        yield from merger.ready()
    yield from merger.ready(keep=0)


def ranks_in_words(ranks: Sequence[int]) -> str:
    """``0``, ``0,2`` or ``1-7``."""
    parts: list[list[int]] = []
    for rank in ranks:
        if parts and parts[-1][-1] == rank - 1:
            parts[-1][1:] = [rank]
        else:
            parts.append([rank])
    return ",".join("-".join(map(str, part)) for part in parts)


def spans(ranks: list[int]) -> str:
    """``rank 3``, or ``ranks 1-3,7``."""
    return f"rank{'s' * (len(ranks) > 1)} {ranks_in_words(sorted(ranks))}"

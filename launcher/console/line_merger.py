"""The lines of several ranks merged into one text: a line that several of them wrote appears once, with their ranks."""

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
    """The waiting lines with the same text; those that a rank has written come first, without a gap."""

    waiting: deque[_Line] = field(default_factory=deque)
    given: int = 0
    """How many have been yielded."""
    written: dict[int, int] = field(default_factory=dict)
    """For each rank, how many of these lines it has written, including those already yielded."""

    def next_of(self, rank: int) -> _Line | None:
        """Find the line that a rank's next one joins; None if it is a new line."""
        position = max(self.written.get(rank, 0) - self.given, 0)
        self.written[rank] = self.given + position + 1
        return self.waiting[position] if position < len(self.waiting) else None


class LineMerger:
    """A merger that takes the lines of each rank in order and yields them in the order in which they first came.

    A rank's line joins the first line of the same text that waits and that this rank has not written; two equal
    lines of one rank stay two.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Line] = deque()
        self._by_text: dict[str, _TextQueue] = {}
        self.fresh = 0
        """Lines added since the last call of ``ready``."""

    def feed(self, rank: int, text: str) -> None:
        """Add one line of a rank, without its line end, and without the "[rank1]: " that torch puts before it."""
        text = text.removeprefix(f"[rank{rank}]: ")
        same = self._by_text.setdefault(text, _TextQueue())
        line = same.next_of(rank)
        if line is None:
            line = _Line(text)
            same.waiting.append(line)
            self._waiting.append(line)
            self.fresh += 1
        line.ranks.add(rank)

    def feed_in_turns(self, streams: Mapping[int, Iterable[str]]) -> Iterator[None]:
        """Add the lines of all ranks in turn, since nothing says when each was written."""
        turns = {rank: iter(lines) for rank, lines in streams.items()}
        while turns:
            for rank, lines in list(turns.items()):
                text = next(lines, None)
                if text is None:
                    del turns[rank]
                else:
                    self.feed(rank, text)
            yield

    def ready(self, max_waiting: int = WINDOW) -> Iterator[tuple[str, list[int]]]:
        """Yield the oldest lines with their ranks, down to ``max_waiting`` that other ranks may still join."""
        self.fresh = 0
        while len(self._waiting) > min(max_waiting, WINDOW):
            line = self._waiting.popleft()
            same = self._by_text[line.text]
            same.waiting.popleft()  # equal lines wait in the order in which they came
            same.given += 1
            if not same.waiting:
                del self._by_text[line.text]
            yield line.text, sorted(line.ranks)


def merge_lines(streams: Mapping[int, Iterable[str]]) -> Iterator[tuple[str, list[int]]]:
    """Merge the lines of complete files; each comes with its ranks."""
    merger = LineMerger()
    for _ in merger.feed_in_turns(streams):
        yield from merger.ready()
    yield from merger.ready(max_waiting=0)


def format_ranks(ranks: Sequence[int]) -> str:
    """Format ranks as ``0``, ``0,2`` or ``1-7``."""
    parts: list[list[int]] = []
    for rank in ranks:
        if parts and parts[-1][-1] == rank - 1:
            parts[-1][1:] = [rank]
        else:
            parts.append([rank])
    return ",".join("-".join(map(str, part)) for part in parts)


def describe_ranks(ranks: list[int]) -> str:
    """Format ranks as ``rank 3`` or ``ranks 1-3,7``."""
    return f"rank{'s' * (len(ranks) > 1)} {format_ranks(sorted(ranks))}"

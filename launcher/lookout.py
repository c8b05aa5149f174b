"""Looks out for hangs on one node: gathers what is known of each rank, has it judged, and says so.

Called by the supervisor many times a second. Progress costs a few words of shared memory; what ranks use is read
from /proc every now and then; stacks are asked for only when nothing moves.
"""

from __future__ import annotations

import linecache
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.blame import Frame
from . import family, proc
from .ending import Ending
from .evidence import Evidence, telling
from .hang import Verdict, judge_program, judge_training
from .hang_card import hang_error, warning
from .stacks import Dump, stack_file, tidy

Progress = Callable[[int], tuple[int, str, int]]
"""Local rank to (steps done, phase, a stamp that changes with each sign of life)."""
_LONGEST_TICK = 1.0
"""More between two ticks is time that this process itself was stopped, or the whole machine."""
_AWAKE_CAP = 0.25


@dataclass
class _Rank:
    """What is remembered of a rank from one look to the next; times are the lookout's own."""

    process: family.Process
    use: proc.Use
    active: float
    moved: float
    said: tuple[int, str, int] | None = None
    base: int | None = None
    """Steps that were done when it had started."""
    stack: Sequence[Frame] = ()
    source: str = ""
    place: tuple[str, str] | None = None
    since: float = 0.0
    state: str = "R"


class Lookout:
    """One attempt's.

    Args:
        attempt: its folder.
        timeout: seconds; 0 never calls a hang.
        world_size: ranks in all.
        progress: of a training; None for a program that does not say how far it is.
        warn: is told of what may become a hang.
    """

    def __init__(
        self,
        attempt: Path,
        timeout: float,
        world_size: int,
        progress: Progress | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._attempt = attempt.resolve()
        self._timeout = timeout
        self._world_size = world_size
        self._progress = progress
        self._warn = warn
        self._judge = judge_program if progress is None else judge_training
        self._every = min(max(timeout / 16, 0.25), 2.0)
        self._ranks: dict[int, _Rank] = {}
        self._left: dict[int, float] = {}
        self._ticked: float | None = None
        self._now = 0.0
        self._sampled = 0.0
        self._next = 0.0
        self._dumps: dict[int, Dump] = {}
        self._warned: list[tuple[int, str]] = []

    def tick(self, ending: Ending) -> None:
        """Look, and put a hang that is certain into ``ending``."""
        if not self._timeout or len(ending.pids) < self._world_size:
            return
        slept = self._advance()
        self._meet(ending)
        self._hear()
        if self._dumps:
            if all(dump.is_ready() for dump in self._dumps.values()):
                self._conclude(ending)
        elif slept or self._now - self._sampled >= self._every:
            self._sample(counts=not slept)
            if self._now >= self._next and self._is_suspicious():
                self._ask()

    def close(self) -> None:
        """Remove what was never written to."""
        tidy(self._attempt)

    def _advance(self) -> bool:
        """Count the time since the last tick; where this process was stopped meanwhile, hardly any."""
        now = time.monotonic()
        passed = 0.0 if self._ticked is None else now - self._ticked
        self._ticked = now
        slept = passed > _LONGEST_TICK
        self._now += _AWAKE_CAP if slept else passed
        return slept

    def _meet(self, ending: Ending) -> None:
        for rank, pid in ending.pids.items():
            if rank in ending.stamps:
                self._left.setdefault(rank, self._now)
            elif rank not in self._ranks and (process := family.process_of(pid)) is not None:
                self._ranks[rank] = _Rank(process, proc.use(pid), self._now, self._now)

    def _hear(self) -> None:
        """How far the ranks are; of a program only what they use tells."""
        if self._progress is None:
            return
        for local, rank in enumerate(sorted(self._ranks)):
            known, said = self._ranks[rank], self._progress(local)
            if said != known.said:
                known.moved = self._now
                if known.base is None and said[1] != "starting":
                    known.base = said[0]
            known.said = said

    def _sample(self, *, counts: bool) -> None:
        """What the ranks have used since the last time, which counts unless we have slept or asked them something."""
        self._sampled = self._now
        for rank, known in self._ranks.items():
            if rank in self._left:
                continue
            known.state = proc.state(known.process)
            used = proc.use(known.process.pid)
            if counts and proc.is_active(known.use, used):
                known.active = self._now
            known.use = used

    def _is_device(self, rank: int) -> bool:
        known = self._ranks.get(rank)
        return known is not None and proc.has_open(known.process.pid, "/dev/nvidia*")

    def _is_suspicious(self) -> bool:
        """Whether it is worth asking for stacks."""
        here = [rank for rank in self._ranks if rank not in self._left]
        if self._progress is not None:
            quiet = (self._now - self._ranks[rank].moved for rank in here if not self._waits(rank))
            return bool(here) and all(silent >= self._timeout for silent in quiet)
        half = self._timeout / 2
        still = [rank for rank in here if self._now - self._ranks[rank].active >= half]
        others = [rank for rank in here if rank not in still]
        enough = (
            self._world_size > 1 and bool(still) and bool(len(here) < self._world_size or others or still)
        )
        return enough and all(self._is_device(rank) for rank in others)

    def _waits(self, rank: int) -> bool:
        said = self._ranks[rank].said
        return said is not None and said[1] == "waiting"

    def _ask(self) -> None:
        quiet = f"nothing has moved for {self._quiet():.0f} s"
        for rank, known in self._ranks.items():
            if rank not in self._left:
                title = f"rank {rank}, pid {known.process.pid}, state {known.state}: {quiet}"
                self._dumps[rank] = Dump(known.process, stack_file(self._attempt, rank), title)

    def _quiet(self) -> float:
        here = [known for rank, known in self._ranks.items() if rank not in self._left]
        since = [known.active if self._progress is None else known.moved for known in here]
        return self._now - max(since, default=self._now)

    def _conclude(self, ending: Ending) -> None:
        for rank, dump in self._dumps.items():
            self._note(rank, telling(dump.threads()))
        self._dumps = {}
        self._next = self._now + self._timeout / 2 - self._every
        self._sample(counts=False)  # the answers themselves are no sign of life
        self._act(self._judge(self.evidence(), self._timeout), ending)

    def _note(self, rank: int, stack: Sequence[Frame]) -> None:
        known = self._ranks[rank]
        known.stack = stack
        known.source = linecache.getline(stack[0][0], stack[0][1]).strip() if stack else ""
        found = Evidence(rank, stack=stack, source=known.source, device=self._is_device(rank))
        place = found.operation, found.place
        if place != known.place or not stack:
            known.place, known.since = place, self._now

    def _act(self, verdict: Verdict | None, ending: Ending) -> None:
        if verdict is None:
            return
        if verdict.certain:
            ending.hang = hang_error(verdict, self._world_size, self._timeout)
        elif (about := [(rank.rank, rank.place) for rank in verdict.culprits]) != self._warned:
            self._warned = about
            self._warn(warning(verdict, self._timeout))

    def evidence(self) -> list[Evidence]:
        """What is known of each rank of this node."""
        return [self._of(rank) for rank in sorted({*self._ranks, *self._left})]

    def _of(self, rank: int) -> Evidence:
        known = self._ranks.get(rank)
        if rank in self._left or known is None:
            pid = None if known is None else known.process.pid
            return Evidence(rank, pid, left=True, idle=self._now - self._left.get(rank, self._now))
        step, phase, _ = known.said or (None, None, 0)
        return Evidence(
            rank,
            known.process.pid,
            known.state,
            idle=self._now - known.active,
            device=self._is_device(rank),
            stack=known.stack,
            source=known.source,
            still=self._now - known.since,
            step=step,
            phase=phase,
            silent=self._now - known.moved,
            fresh=step is not None and step == (known.base if known.base is not None else step),
            file=str(stack_file(self._attempt, rank)),
        )

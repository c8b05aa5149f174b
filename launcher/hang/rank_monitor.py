"""Watches one node's ranks for hangs: gathers what is known of each, for ``coordinator.py`` to judge.

Called by the supervisor many times a second. Progress costs a few words of shared memory; what ranks use is read
from /proc every now and then; stacks are asked for only when nothing moves.
"""

from __future__ import annotations

import linecache
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...data.common import Process, StackFrame, process_of
from ..process import STACK_SIGNAL, StackDump, proc_stats, remove_unused_dumps, stack_file
from .rank_evidence import RankEvidence, relevant_thread

Progress = Callable[[int], tuple[int, str, int]]
"""Local rank to (steps done, phase, a stamp that changes with each sign of life)."""
Activity = Literal["moving", "perhaps", "still"]
"""Of a node's ranks: one of them moves, and there is no hang; nothing speaks against one; something speaks for one."""
_LONGEST_TICK = 1.0
"""More between two ticks is time that this process itself was stopped, or the whole machine."""
_AWAKE_CAP = 0.25


@dataclass
class _RankHistory:
    """The memory of a rank from one look to the next; times are the monitor's own."""

    process: Process
    use: proc_stats.ResourceUse
    active_at: float
    progressed_at: float
    said: tuple[int, str, int] | None = None
    initial_steps: int | None = None
    """Steps that were done when it had started."""
    stack: Sequence[StackFrame] = ()
    source: str = ""
    place: tuple[str, str] | None = None
    at_place_since: float = 0.0
    state: str = "R"

    @property
    def waits_for_horizon(self) -> bool:
        """Whether it waits until it may do the next step."""
        return self.said is not None and self.said[1] == "waiting"


class RankMonitor:
    """An observer of the ranks of one attempt on this node.

    Args:
        attempt: its folder.
        timeout: seconds; 0 looks at nothing.
        processes: ranks of this node.
        progress: of a training; None for a program that does not say how far it is.
    """

    def __init__(
        self, attempt: Path, timeout: float, processes: int, progress: Progress | None = None
    ) -> None:
        self.attempt = attempt.resolve()
        self.timeout = timeout
        self.limit = timeout
        """Seconds of silence after which ranks of a training are looked at: at most ``timeout``, as node 0 says."""
        self.now = 0.0
        """In seconds, in which this process was awake."""
        self.activity: Activity = "moving"
        self._processes = processes
        self._progress = progress
        self._ranks: dict[int, _RankHistory] = {}
        self._left: dict[int, float] = {}
        self._ticked: float | None = None
        self._sampled = 0.0
        self._dumps: dict[int, StackDump] | None = None

    def take_limit(self, seconds: float) -> None:
        """Look at the ranks after this many seconds of silence."""
        self.limit = seconds

    def tick(self, pids: Mapping[int, int], ended: Container[int]) -> None:
        """See how far the ranks are, and now and then what they use.

        Args:
            pids: rank to process of this node's ranks that have started.
            ended: ranks that have ended since.
        """
        if not self.timeout or len(pids) < self._processes:
            return
        slept = self._advance()
        self._register_ranks(pids, ended)
        self._read_progress()
        if self._dumps is None and (slept or self.now - self._sampled >= self._interval()):
            self._sample(counts=not slept)
            self.activity = self._activity_now()

    def _interval(self) -> float:
        """Return the seconds between two samples: where the limit is short, only a silence is looked at often."""
        limit = self.limit if self._progress is None or self.quiet() > self.limit / 4 else self.timeout
        return min(max(limit / 16, 0.25), 2.0)

    def request_stacks(self) -> None:
        """Have the ranks write their stacks."""
        quiet = f"nothing has moved for {self.quiet():.0f} s"
        self._dumps = {}
        for rank, known in self._ranks.items():
            if rank not in self._left:
                title = f"rank {rank}, pid {known.process.pid}, state {known.state}: {quiet}"
                self._dumps[rank] = self._dump(known.process, stack_file(self.attempt, rank), title)

    def _dump(self, process: Process, path: Path, title: str) -> StackDump:
        """Ask a rank for its stacks; one that cannot answer is described from outside."""
        can_answer = proc_stats.can_handle(process, STACK_SIGNAL) and proc_stats.has_open(
            process.pid, str(path)
        )
        return StackDump(process, path, title, () if can_answer else proc_stats.describe_process(process.pid))

    def collect_evidence(self) -> list[RankEvidence] | None:
        """Return what is known of each rank, once those that were asked have answered; until then None."""
        if self._dumps is None or not all(dump.is_ready() for dump in self._dumps.values()):
            return None
        for rank, dump in self._dumps.items():
            self._note(rank, relevant_thread(dump.threads()))
        self._dumps = None
        self._sample(counts=False)  # the answers themselves are no sign of life
        return [self._evidence_of(rank) for rank in sorted({*self._ranks, *self._left})]

    def close(self) -> None:
        """Remove stack files that were never written to."""
        remove_unused_dumps(self.attempt)

    def _advance(self) -> bool:
        """Count the time since the last tick; where this process was stopped meanwhile, hardly any."""
        now = time.monotonic()
        passed = 0.0 if self._ticked is None else now - self._ticked
        self._ticked = now
        slept = passed > _LONGEST_TICK
        self.now += _AWAKE_CAP if slept else passed
        return slept

    def _register_ranks(self, pids: Mapping[int, int], ended: Container[int]) -> None:
        for rank, pid in pids.items():
            if rank in ended:
                self._left.setdefault(rank, self.now)
            elif rank not in self._ranks and (process := process_of(pid)) is not None:
                self._ranks[rank] = _RankHistory(process, proc_stats.resource_use(pid), self.now, self.now)

    def _read_progress(self) -> None:
        """Read how far the ranks are; of a program only its use of resources tells that."""
        if self._progress is None:
            return
        for local, rank in enumerate(sorted(self._ranks)):
            known, said = self._ranks[rank], self._progress(local)
            if said != known.said:
                known.progressed_at = self.now
                if known.initial_steps is None and said[1] != "starting":
                    known.initial_steps = said[0]
            known.said = said

    def _sample(self, *, counts: bool) -> None:
        """Note what the ranks have used since the last time; it counts unless we have slept or asked them something."""
        self._sampled = self.now
        for rank, known in self._ranks.items():
            if rank in self._left:
                continue
            known.state = proc_stats.process_state(known.process)
            used = proc_stats.resource_use(known.process.pid)
            if counts and proc_stats.is_active(known.use, used):
                known.active_at = self.now
            known.use = used

    def _is_device(self, known: _RankHistory) -> bool:
        return proc_stats.has_open(known.process.pid, "/dev/nvidia*")

    def _activity_now(self) -> Activity:
        """Judge whether the ranks move, or whether it is worth asking for their stacks."""
        here = [known for rank, known in self._ranks.items() if rank not in self._left]
        if self._progress is not None:
            quiet = [self.now - known.progressed_at for known in here if not known.waits_for_horizon]
            if not quiet:  # all have ended, or wait for the horizon: that is not a standstill of theirs
                return "perhaps"
            return "moving" if min(quiet) < self.limit else "still"
        still = [known for known in here if self.now - known.active_at >= self.timeout / 2]
        if not all(known in still or self._is_device(known) for known in here):
            return "moving"
        return "still" if still else "perhaps"

    def quiet(self) -> float:
        """Return the seconds for which nothing has moved here."""
        here = [known for rank, known in self._ranks.items() if rank not in self._left]
        if self._progress is not None:
            since = [known.progressed_at for known in here]
        else:  # with a GPU a rank uses a processor while it waits
            since = [known.active_at for known in here if not self._is_device(known)]
        return self.now - max(since, default=self.now)

    def _note(self, rank: int, stack: Sequence[StackFrame]) -> None:
        known = self._ranks[rank]
        known.stack = stack
        known.source = linecache.getline(stack[0][0], stack[0][1]).strip() if stack else ""
        found = RankEvidence(rank, stack=stack, source=known.source, device=self._is_device(known))
        place = found.operation, found.place
        if place != known.place or not stack:
            known.place, known.at_place_since = place, self.now

    def _evidence_of(self, rank: int) -> RankEvidence:
        known = self._ranks.get(rank)
        if rank in self._left or known is None:
            pid = None if known is None else known.process.pid
            return RankEvidence(
                rank, pid, has_ended=True, idle_seconds=self.now - self._left.get(rank, self.now)
            )
        step, phase, _ = known.said or (None, None, 0)
        return RankEvidence(
            rank,
            known.process.pid,
            known.state,
            idle_seconds=self.now - known.active_at,
            device=self._is_device(known),
            stack=known.stack,
            source=known.source,
            still=self.now - known.at_place_since,
            step=step,
            phase=phase,
            silent_seconds=self.now - known.progressed_at,
            before_first_step=step is not None
            and step == (known.initial_steps if known.initial_steps is not None else step),
            file=str(stack_file(self.attempt, rank)),
            held=proc_stats.is_held(known.process.pid),
            asleep=proc_stats.is_asleep(known.process.pid),
        )

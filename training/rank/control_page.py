"""One shared page between a node's supervisor and its ranks: how far they may go, and how far they are. No torch.

Stopping is a message, not a signal: a rank may start step s only below the horizon, which the supervisor keeps
extending. To stop is to leave the horizon where it is and to call it final; every rank ends at that very step,
and none had to ask another. Reading it costs a rank 0.1 µs a step.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import Self

from .members import MEMBER_WORDS, PAGE_ROW, Members, WorldChange, from_words, to_words

_WORDS = 1 << 13
_HORIZON, _FINAL, _CHECKPOINT_AT, _EVALUATE_AT = 0, 1, 2, 3
_CHANGE, _CHANGE_AT, _MEMBERS = 4, 5, 6
"""Number of the last change of the world, its step, and the members from then on."""
_RESCUE = _MEMBERS + MEMBER_WORDS
"""Number of the last change that has left out who had died."""
HorizonWords = tuple[int, int, bool, int]
"""(horizon, step of the requested checkpoint, whether the horizon is final, step of the requested evaluation)."""
_FIRST_RANK, _RANK_WORDS = 16, 8
_STEP, _PHASE, _TIME, _REACHED = 0, 1, 2, 3
_WAIT_SECONDS = 0.001
NO_HORIZON = 2**63
PHASES = ("starting", "training", "evaluation", "checkpoint", "waiting", "ending")
"""What a rank is doing; the page holds the index."""


class ControlPage:
    """The words themselves, all zero at first; 64-bit stores, so that a reader sees the old or the new value.

    Args:
        path: a file on this node, made here where it is not there yet.
        ranks: of this node.
    """

    def __init__(self, path: Path, ranks: int) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = 8 * max(_WORDS, _FIRST_RANK + _RANK_WORDS * ranks)
            if os.fstat(descriptor).st_size < size:
                os.truncate(descriptor, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self.words = memoryview(self._map).cast("Q")
        self.ranks = ranks

    def close(self) -> None:
        """Unmap it."""
        self.words.release()
        self._map.close()


class RankControl:
    """A rank's side of the page; without a page there is no horizon and nobody to tell.

    Args:
        page: of this node, or None.
        local_rank: which of its ranks this is.
    """

    def __init__(self, page: ControlPage | None, local_rank: int) -> None:
        self._words = memoryview(bytearray(8 * _FIRST_RANK * 2)).cast("Q") if page is None else page.words
        self._own = _FIRST_RANK + _RANK_WORDS * (0 if page is None else local_rank)
        self.number = 0 if page is None else local_rank
        """Of this process, among those of a run on one node."""
        self.supervised = page is not None
        self.members: Members = ()
        """Of the world that this rank has gone over to; empty in the first one."""
        self._change = 0
        if page is None:
            self._words[_HORIZON] = NO_HORIZON

    @classmethod
    def from_environment(cls, local_rank: int) -> Self:
        """Open the page that ``LOCKSTEP_CONTROL`` names; none where the supervisor is not ours."""
        path = os.environ.get("LOCKSTEP_CONTROL")
        row = int(os.environ.get(PAGE_ROW, local_rank))
        return cls(ControlPage(Path(path), row + 1) if path else None, row)

    def may_start(self, step: int) -> bool:
        """Report ``step`` steps as done, wait for the supervisor, and return whether the next step may start."""
        words, own = self._words, self._own
        words[own + _STEP] = step
        words[own + _TIME] = time.monotonic_ns()
        if step < words[_HORIZON]:
            return True
        return self._wait(step)

    def _wait(self, step: int) -> bool:
        before = self.enter("waiting")
        while step >= self._words[_HORIZON]:
            if self._words[_FINAL] and step >= self._words[_HORIZON]:
                return False
            time.sleep(_WAIT_SECONDS)
        self.enter(before)
        return True

    def begin(self, step: int) -> None:
        """Report the step that a run starts or resumes at: its first step is known by that."""
        self._words[self._own + _STEP] = step
        self.touch()

    def touch(self) -> None:
        """Give a sign of life, where no step is done and no phase changes."""
        self._words[self._own + _TIME] = time.monotonic_ns()

    def is_checkpoint_due(self, step: int) -> bool:
        """Say whether one is requested at ``step``; called after ``may_start``, all ranks get the same answer."""
        return bool(step) and self._words[_CHECKPOINT_AT] == step

    def is_evaluation_due(self, step: int) -> bool:
        """Say whether an evaluation is requested at ``step``, like ``is_checkpoint_due``."""
        return bool(step) and self._words[_EVALUATE_AT] == step

    def is_change_due(self, step: int) -> bool:
        """Say whether the world is to change at ``step``, like ``is_checkpoint_due``."""
        return self._words[_CHANGE] > self._change and self._words[_CHANGE_AT] == step

    def change_from(self, before: Members) -> WorldChange:
        """Return the last change that was requested.

        Args:
            before: the members until then.
        """
        words = self._words
        members = from_words(words[_MEMBERS : _MEMBERS + MEMBER_WORDS].tolist())
        return WorldChange(int(words[_CHANGE]), before, members)

    def has_lost(self, change: int) -> bool:
        """Say whether a rank has died since the change of that number, and the others are to go on without it."""
        return bool(self._words[_RESCUE] > change)

    def await_rescue(self, before: Members, seconds: float) -> WorldChange | None:
        """Wait for the change that leaves out who has died; None where none comes in time.

        Args:
            before: the members until then.
            seconds: to wait.
        """
        deadline = time.monotonic() + seconds
        while self._words[_RESCUE] <= self._change:
            if time.monotonic() > deadline:
                return None
            time.sleep(_WAIT_SECONDS)
        members = from_words(self._words[_MEMBERS:_RESCUE].tolist())
        return WorldChange(int(self._words[_RESCUE]), before, members, is_rescue=True)

    def await_change(self, number: int, before: Members) -> WorldChange:
        """Report that this process is ready to join by change ``number``; wait for it, or for ever."""
        self._words[self._own + _REACHED] = 2 * number - 1
        while self._words[_CHANGE] != number:
            time.sleep(_WAIT_SECONDS)
        return self.change_from(before)

    def leave_world(self, change: WorldChange) -> None:
        """Report that this rank needs the world before a change no more, and wait until none does."""
        self._words[self._own + _REACHED] = 2 * change.number - 1
        rows = [_FIRST_RANK + _RANK_WORDS * number for number in change.parting]
        while any(self._words[row + _REACHED] < 2 * change.number - 1 for row in rows):
            time.sleep(_WAIT_SECONDS)

    def enter_world(self, change: WorldChange, step: int) -> None:
        """Report that this rank continues at a step in the world after a change."""
        self._change, self.members = change.number, change.after
        self.begin(step)
        self._words[self._own + _REACHED] = 2 * change.number

    @property
    def stopping(self) -> bool:
        """Say whether the horizon is final; ranks may learn it at different times, so alone it decides nothing."""
        return bool(self._words[_FINAL])

    def enter(self, phase: str) -> str:
        """Report what this rank is doing from now on; return the phase before."""
        before = PHASES[self._words[self._own + _PHASE]]
        self._words[self._own + _PHASE] = PHASES.index(phase)
        self._words[self._own + _TIME] = time.monotonic_ns()
        return before


class Horizon:
    """The supervisor's side of the page.

    Args:
        page: of this node.
    """

    LOOKAHEAD_SECONDS = 0.5
    """Of steps that ranks may do without a word; a stop takes at most that long, or two steps."""

    def __init__(self, page: ControlPage) -> None:
        self._words = page.words
        self.rows: Members = tuple(range(page.ranks))
        """The ranks that count."""
        self._last: tuple[float, int] | None = None
        self._rate = 0.0

    def count(self, members: Members) -> None:
        """Count these ranks from now on."""
        self.rows = members

    def progress(self, rank: int) -> tuple[int, str, float]:
        """Return (steps done, phase, seconds since its last sign of life) of a local rank."""
        at = _FIRST_RANK + _RANK_WORDS * rank
        silent = (time.monotonic_ns() - self._words[at + _TIME]) / 1e9
        return int(self._words[at + _STEP]), PHASES[self._words[at + _PHASE]], silent

    def take(self, horizon: int, checkpoint_at: int, *, final: bool, evaluate_at: int = 0) -> None:
        """Copy another node's horizon: what is requested first, so that no rank passes it unaware."""
        self._words[_CHECKPOINT_AT] = checkpoint_at
        self._words[_EVALUATE_AT] = evaluate_at
        self._words[_HORIZON] = horizon
        self._words[_FINAL] = int(final)

    def words(self) -> HorizonWords:
        """Return what ``take`` copies."""
        return self.value, int(self._words[_CHECKPOINT_AT]), self.stopping, int(self._words[_EVALUATE_AT])

    def note(self, rank: int, steps: int, phase: int, stamp: int) -> None:
        """Record the progress of another node's rank."""
        at = _FIRST_RANK + _RANK_WORDS * rank
        self._words[at + _STEP], self._words[at + _PHASE], self._words[at + _TIME] = steps, phase, stamp

    def said(self, rank: int) -> tuple[int, str, int]:
        """Return (steps done, phase, time stamp of its last sign of life) of a local rank."""
        at = _FIRST_RANK + _RANK_WORDS * rank
        return int(self._words[at + _STEP]), PHASES[self._words[at + _PHASE]], int(self._words[at + _TIME])

    def steps(self) -> list[int]:
        """Return the steps done by each rank that counts, from the run's start."""
        return [self.progress(rank)[0] for rank in self.rows]

    @property
    def value(self) -> int:
        """Return the step that no rank may start."""
        return int(self._words[_HORIZON])

    def extend(self) -> None:
        """Let the ranks continue; called now and then, never after ``stop``."""
        if self._words[_FINAL]:
            return
        done = max(self.steps(), default=0)
        self._measure(done)
        ahead = max(2, int(self._rate * self.LOOKAHEAD_SECONDS))
        self.raise_horizon(done + ahead)

    def raise_horizon(self, step: int) -> None:
        """Let ranks start every step below ``step``; the horizon never comes nearer."""
        if not self._words[_FINAL] and step > self._words[_HORIZON]:
            self._words[_HORIZON] = step

    def _measure(self, done: int) -> None:
        """Measure the recent steps per second."""
        now = time.monotonic()
        if self._last is None or done < self._last[1]:
            self._last = now, done
        elif now - self._last[0] > self.LOOKAHEAD_SECONDS:
            self._rate = (done - self._last[1]) / (now - self._last[0])
            self._last = now, done

    def stop(self) -> int:
        """Make the present horizon the end; return the step that every rank will stop at, unless it is done before."""
        self._words[_FINAL] = 1
        return self.value

    @property
    def stopping(self) -> bool:
        """Say whether ``stop`` was called."""
        return bool(self._words[_FINAL])

    def request_checkpoint(self) -> int:
        """Have every rank take part in a checkpoint at the present horizon, which none of them has passed.

        Asked again before all have passed the last one, it is that one: it must not be moved under a slow rank.

        Returns:
            The step of the checkpoint.
        """
        return self._request(_CHECKPOINT_AT)

    def request_evaluation(self) -> int:
        """Have every rank evaluate at the present horizon, as ``request_checkpoint`` has them save."""
        return self._request(_EVALUATE_AT)

    def _request(self, word: int) -> int:
        asked = int(self._words[word])
        if not asked or min(self.steps(), default=0) > asked:
            asked = self._words[word] = self.value
        return asked

    def prepare_row(self, number: int) -> None:
        """Forget what a process that had this number before has said."""
        at = _FIRST_RANK + _RANK_WORDS * number
        for word in range(at, at + _RANK_WORDS):
            self._words[word] = 0

    def request_change(self, number: int, members: Members) -> int:
        """Have every rank go over to another world at the present horizon, which none of them has passed.

        Returns:
            The step of the change.
        """
        self._write_members(members)
        self._words[_CHANGE_AT] = self.value
        self._words[_CHANGE] = number
        return self.value

    def request_rescue(self, number: int, members: Members) -> None:
        """Have the ranks that are left go over to a world of theirs, at the step that they are at."""
        self._write_members(members)
        self._words[_RESCUE] = number

    def _write_members(self, members: Members) -> None:
        for at, word in enumerate(to_words(members)):
            self._words[_MEMBERS + at] = word

    def is_ready(self, number: int, change: int) -> bool:
        """Say whether a process that was started for a change waits for it."""
        return bool(self._words[_FIRST_RANK + _RANK_WORDS * number + _REACHED] >= 2 * change - 1)

    def is_done(self, change: WorldChange) -> bool:
        """Say whether every member of the world after a change is in it."""
        rows = (_FIRST_RANK + _RANK_WORDS * number for number in change.after)
        return all(self._words[row + _REACHED] == 2 * change.number for row in rows)

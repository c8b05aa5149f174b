"""Is it a hang, and whose? Pure functions of what all nodes know of their ranks; ``coordinator.py`` asks them.

A training says how far it is: there a hang is that no rank has made progress for the whole time. A program that
says nothing may sleep for as long as it likes: there it takes ranks that stay inside a collective while
another one cannot come, because it is stopped, has left, or blocks elsewhere without doing anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from ...data.common import is_user_code
from .rank_evidence import HangVerdict, RankEvidence, are_all_joining

SLOW_PHASE_FACTOR = 3
"""Times the timeout for a rank that starts, does its first step, writes a checkpoint, ends or computes."""
_SLOW_PHASES = ("starting", "checkpoint", "ending")
_WARNED_AT = 0.5
_STILL_SHARE = 0.4  # of the timeout, between two looks that are half of it apart
_BUSY_SHARE, _BUSY_SECONDS = 0.25, 10.0
_IDLE_SHARE = 0.5


def judge_training(ranks: Sequence[RankEvidence], timeout: float, limit: float) -> HangVerdict | None:
    """Judge whether a training hangs.

    Args:
        ranks: of all nodes.
        timeout: seconds without progress.
        limit: the same, as learned from quick steps: after it a hang is called where nothing else is possible.
    """
    if limit < timeout and (early := _judge_early(ranks, limit)) is not None:
        return early
    present = [rank for rank in ranks if not rank.has_ended and rank.phase != "waiting"]
    if not present or any(rank.silent_seconds < timeout or rank.under_debugger for rank in present):
        return None
    waiting = [rank for rank in present if _waits(rank, present, timeout)]
    others = [rank for rank in present if rank not in waiting]
    if any(_may_go_on(rank, timeout) for rank in others):
        return None
    seconds = min(rank.silent_seconds for rank in present)
    return _verdict(_of_training(others, waiting, ranks), ranks, seconds)


def _judge_early(ranks: Sequence[RankEvidence], limit: float) -> HangVerdict | None:
    """Judge a training by its own pace, which knows nothing of a slow disk, a network or a compiler.

    So it takes ranks that cannot continue: stopped, or asleep in the user's code while nothing of theirs moves; or
    ranks that all wait for each other, and not all in one place, where a network may keep them.
    """
    present = [rank for rank in ranks if not rank.has_ended and rank.phase != "waiting"]
    if not present or any(rank.silent_seconds < limit or rank.under_debugger for rank in present):
        return None
    waiting = [rank for rank in present if _waits(rank, present, limit)]
    others = [rank for rank in present if rank not in waiting]
    if not all(_cannot_go_on(rank, limit) for rank in others):
        return None
    apart = len({(rank.step, rank.phase, *_where(rank)) for rank in waiting}) > 1
    if not others and not apart:
        return None
    return _verdict(_of_training(others, waiting, ranks), ranks, min(r.silent_seconds for r in present))


def _cannot_go_on(rank: RankEvidence, limit: float) -> bool:
    if rank.stopped:
        return True
    in_user_code = bool(rank.stack) and is_user_code(rank.stack[0][0])
    return in_user_code and rank.asleep and not rank.held and rank.idle_seconds >= _IDLE_SHARE * limit


def _waits(rank: RankEvidence, present: Sequence[RankEvidence], timeout: float) -> bool:
    """Tell whether a rank waits for others; with a GPU it does so at 100 % CPU, in any call once its queue is full."""
    if rank.stopped:
        return False
    if rank.device and rank.operation:
        return True
    if rank.device and (rank.step or 0) > min(other.step or 0 for other in present):
        return True
    return bool(rank.operation) and not _is_busy(rank, timeout)


def _is_busy(rank: RankEvidence, timeout: float) -> bool:
    return rank.idle_seconds < min(_BUSY_SHARE * timeout, _BUSY_SECONDS)


def _may_go_on(rank: RankEvidence, timeout: float) -> bool:
    """Tell whether a rank that waits for no other may still be at its work."""
    if rank.stopped:
        return False
    patient = rank.phase in _SLOW_PHASES or rank.before_first_step
    if patient and rank.idle_seconds < timeout:
        return True  # it was compiling, tokenising or writing not long ago
    slow = patient or _is_busy(rank, timeout)
    return slow and rank.silent_seconds < SLOW_PHASE_FACTOR * timeout


def _of_training(
    others: Sequence[RankEvidence], waiting: Sequence[RankEvidence], ranks: Sequence[RankEvidence]
) -> Sequence[RankEvidence]:
    """Return whose fault it is: a stopped process's, else that of one that waits for no other, else the odd one's."""
    if stopped := [rank for rank in others if rank.stopped]:
        return stopped
    if others:
        least = min(rank.step or 0 for rank in others)
        return [rank for rank in others if (rank.step or 0) == least]
    if left := [rank for rank in ranks if rank.has_ended]:
        return left
    least = min(rank.step or 0 for rank in waiting)
    late = [rank for rank in waiting if (rank.step or 0) == least]
    if len(late) < len(waiting) - len(late):
        return late
    return _odd(waiting, lambda rank: rank.phase) or _odd(waiting, _where)


def _where(rank: RankEvidence) -> tuple[str, str]:
    return rank.operation, rank.place


def _odd(ranks: Sequence[RankEvidence], key: Callable[[RankEvidence], Hashable]) -> list[RankEvidence]:
    """Return the ranks that are not where most are; none without such a majority."""
    (most, count), *_ = Counter(map(key, ranks)).most_common(1)
    others = [rank for rank in ranks if key(rank) != most]
    return others if len(others) < count else []


def judge_program(ranks: Sequence[RankEvidence], timeout: float, _: float = 0) -> HangVerdict | None:
    """Judge whether the ranks of any program hang; at half of the timeout that is a warning.

    Args:
        ranks: of all nodes.
        timeout: seconds for which nothing may have moved.
    """
    half = _WARNED_AT * timeout
    waiting = [rank for rank in ranks if _is_inside(rank, half)]
    others = [rank for rank in ranks if rank not in waiting]
    if not waiting or any(rank.under_debugger or not _is_stuck(rank, half) for rank in others):
        return None
    culprits = _of_program(others, waiting)
    apart = len({_where(rank) for rank in waiting}) > 1
    if not culprits and not apart and not are_all_joining(ranks):
        return None
    seconds = min(rank.idle_seconds for rank in [*others, *(w for w in waiting if not w.device)] or waiting)
    stayed = all(
        rank.still >= _STILL_SHARE * timeout for rank in ranks if not (rank.has_ended or rank.stopped)
    )
    return _verdict(culprits, ranks, seconds, certain=stayed and seconds >= timeout)


def _is_inside(rank: RankEvidence, half: float) -> bool:
    """Tell whether a rank is inside a collective, and has not just come there."""
    if rank.has_ended or rank.stopped or not rank.operation:
        return False
    return rank.device or rank.idle_seconds >= half


def _is_stuck(rank: RankEvidence, half: float) -> bool:
    """Tell whether a rank cannot come, or shows no sign of it; without a stack it gets the benefit of the doubt."""
    known = rank.has_ended or rank.stopped or rank.state == "D" or bool(rank.stack)
    return known and rank.idle_seconds >= half


def _of_program(others: Sequence[RankEvidence], waiting: Sequence[RankEvidence]) -> Sequence[RankEvidence]:
    """Return the culprits: ranks that do nothing, else those that left, which they may have been free to do."""
    stopped = [rank for rank in others if rank.stopped]
    there = [rank for rank in others if not rank.has_ended]
    return stopped or there or others or _odd(waiting, _where)


def _verdict(
    culprits: Sequence[RankEvidence], ranks: Sequence[RankEvidence], seconds: float, *, certain: bool = True
) -> HangVerdict:
    waiting = [rank for rank in ranks if rank not in culprits and not rank.has_ended]
    return HangVerdict(culprits, waiting, seconds, certain)

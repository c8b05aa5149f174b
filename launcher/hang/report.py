"""A hang in words: who, in which state, where, and who waits for it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from ...data.common import HangError
from ..console import describe_ranks
from .progress_times import FACTOR, HangLimit
from .rank_evidence import HangVerdict, RankEvidence, are_all_joining

_SHOWN = 3
_LEFT = "who ends early leaves the others waiting: look for a loop or an `if` that depends on the rank"
_STATES = {"D": "held by the kernel (state D: a disk or a driver)", "T": "stopped (SIGSTOP or the like)"}


def hang_error(
    verdict: HangVerdict, world_size: int, timeout: float, limit: HangLimit | None = None
) -> HangError:
    """Build the failure card of a hang: at most twelve lines.

    Args:
        verdict: what was found.
        world_size: ranks in all.
        timeout: the fixed limit, in seconds.
        limit: the one that was learned, where one was.
    """
    heads = [_culprit(rank, world_size) for rank in verdict.culprits[:_SHOWN]]
    more = len(verdict.culprits) - len(heads)
    heads += [f"so are {more} more ranks"] if more else []
    heads = heads or [f"all {world_size} ranks wait for each other; whose fault it is cannot be told"]
    waiting = [f"{line} ({_after(verdict)})" for line in _waiting(verdict)]
    none = [] if waiting else [f"no progress for {verdict.seconds:.0f} s"]
    files = [f"{rank.file}{_on(rank)}" for rank in (verdict.culprits or verdict.waiting) if rank.file][:1]
    said = f"the stacks are in {files[0]} and beside it; " if files else ""
    if are_all_joining(verdict.waiting) and not verdict.culprits:
        said = f"leave MASTER_ADDR and MASTER_PORT to the launcher; {said}"
    advice = f"if it only needs longer: --hang-timeout above {timeout:g}"
    if limit is not None and limit.kind is not None and verdict.seconds < timeout:
        learned = f"the limit of {limit.seconds:.3g} s is this run's own: its slowest {limit.kind} took"
        heads.append(f"{learned} {limit.slowest:.2g} s, and it is {FACTOR} times that or --hang-timeout-min")
        advice = f"if it only needs longer: --hang-timeout-min above {limit.seconds:.3g}"
    if verdict.culprits and all(rank.has_ended for rank in verdict.culprits):
        advice = _LEFT
    exit_status = f"exit status {HangError.exit_status}"
    return HangError("\n".join([*heads, *waiting, *none, exit_status]), f"{said}{advice}")


def hang_warning(verdict: HangVerdict, timeout: float) -> str:
    """Return a warning of one line, for while there is time left."""
    who = "; ".join(f"rank {rank.rank} {_doing(rank)}" for rank in verdict.culprits[:_SHOWN])
    others = "; ".join(_waiting(verdict))
    words = f"{who}; {others}" if who and others else who or others
    return f"{words}: nothing has moved for {verdict.seconds:.0f} s, and after {timeout:g} s this is a hang"


def _culprit(rank: RankEvidence, world_size: int) -> str:
    pid = "" if rank.pid is None else f" (pid {rank.pid}{_on(rank)})"
    return f"rank {rank.rank} of {world_size} hangs: it {_doing(rank)}{_progress(rank)}{pid}"


def _on(rank: RankEvidence) -> str:
    return f" on {rank.host}" if rank.host else ""


def _doing(rank: RankEvidence) -> str:
    at = f" at {_short(rank.place)}" if rank.place else ""
    if rank.has_ended:
        return "has ended with status 0"
    if rank.state in _STATES:
        return f"is {_STATES[rank.state]}"
    if rank.operation:
        return f"waits in {rank.operation}{at}"
    return f"makes no progress{at}"


def _progress(rank: RankEvidence) -> str:
    if rank.phase is None:
        return ""
    steps = "" if rank.phase == "starting" else f", after {rank.step:,} steps"
    return f", in phase {rank.phase}{steps}"


def _after(verdict: HangVerdict) -> str:
    return f"for {verdict.seconds:.0f} s"


def _waiting(verdict: HangVerdict) -> Sequence[str]:
    """Group the other ranks by where they wait, the largest group first."""
    places = Counter((rank.operation, rank.place) for rank in verdict.waiting)
    lines = []
    for (operation, place), _ in places.most_common(_SHOWN):
        ranks = [rank.rank for rank in verdict.waiting if (rank.operation, rank.place) == (operation, place)]
        what = f"in {operation} " if operation else ""
        at = f"{what}at {_short(place)}" if place else "at an unknown place"
        verb = "waits" if len(ranks) == 1 else "wait"
        lines.append(f"{describe_ranks(ranks)} {verb}{' for it' if verdict.culprits else ''} {at}")
    return lines


def _short(place: str) -> str:
    relative = os.path.relpath(place)
    return place if relative.startswith("..") else relative

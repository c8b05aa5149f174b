"""Why an attempt ended: it tells the cause from its victims, and builds one error for users."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...data.common import (
    HangError,
    LockstepError,
    MemoryLimitError,
    RankLostError,
    error_from_json,
    is_disk_full,
    signal_name,
)
from .attempt_end import NO_WORD, AttemptEnd, early_end, memory_kills_at, memory_place
from .error_patterns import (
    exception_chain,
    failure_signature,
    hint_for,
    hint_for_log,
    is_dataloader_failure,
    is_killed_worker,
    is_out_of_memory,
    is_peer_abort,
    is_timeout,
)
from .interruptions import InterruptedRunError

_LOST = 4
_FLUSH_FAILED = 120  # Python's own choice: Py_RunMain of CPython
_LINES = 6  # of a message: the card has at most twelve in all
_WIDTH = 400
_TAIL_BYTES = 8192
_LESS_MEMORY = "use fewer processes, smaller batches or fewer loader workers, or ask for more memory"


@dataclass(frozen=True)
class RankFailure:
    """The end of one rank before its work was done."""

    rank: int
    time_ns: int
    account: dict[str, Any] | None
    """What the rank itself wrote; None where it could not."""
    status: int | None
    """Its wait status."""
    certainty: int
    """2: of itself. 1: another's end is among its reasons. 0: it only noticed that another rank was gone."""


def diagnose_failure(
    attempt: Path, end: AttemptEnd, world_size: int, *, script: bool = False
) -> LockstepError | None:
    """Find the cause of a bad end; None where every rank was done.

    Args:
        attempt: the folder with the ranks' logs and error files.
        end: what the supervisor saw.
        world_size: ranks that were started.
        script: the ranks run a user's program, whose exit status is passed on.
    """
    if end.hang is not None or (len(end.done) == world_size and not end.lost):
        return end.hang
    if end.signal is not None:
        return InterruptedRunError(end.signal)
    failures = _failures(attempt, end)
    if end.lost_node and (not failures or _cause(failures).certainty < _SURE):
        return _node_lost(end.lost_node)
    if not failures:
        return _not_started(attempt, end)
    cause = _cause(failures)
    if cause.certainty == 0 and (left := _who_left(end, failures, world_size)):
        return _left(left, cause, attempt, end, world_size)
    own_status = _own_status(cause) if script else None
    if own_status is not None and cause.account is not None:
        cause = replace(cause, account={**cause.account, "exit_status": own_status})
    build = _died_without_record_error if cause.account is None else _error_of_exception
    error = build(cause, attempt, end, world_size)
    if own_status is not None and cause.account is None:
        error.exit_status = own_status
    if own_status == _FLUSH_FAILED:
        error.hint = (
            f"Python ends with {_FLUSH_FAILED} where stdout or stderr takes no more writes; {error.hint}"
        )
    return _with_others(error, cause, failures, world_size)


def _own_status(failure: RankFailure) -> int | None:
    """Return the status with which the process itself ended; None where that was not to be seen, or by a signal.

    What the rank wrote says what was to be its status; a later failure, as of the last flush, may have changed it.
    """
    status = failure.status
    return None if status is None or status & 0x7F else status >> 8


def is_root_cause_known(attempt: Path, end: AttemptEnd, *, script: bool = False) -> bool:
    """Tell whether more than victims have ended so far; the supervisor waits for the cause a little longer.

    Args:
        attempt: the folder with the ranks' error files.
        end: what the supervisor has seen so far.
        script: the cause's exit status is passed on, so it is to end by itself, not by the supervisor's signal.
    """
    failures = _failures(attempt, end)
    if not failures or (cause := _cause(failures)).certainty < _SURE:
        return False
    return not script or cause.rank in end.lost


_SURE = 2


@dataclass(frozen=True)
class Quoted:
    """The ranks whose last words are shown; those of all others are in their logs alone."""

    ranks: frozenset[int]
    interrupts: bool = True
    """Whether a KeyboardInterrupt of theirs is news."""


def quoted_ranks(
    attempt: Path, end: AttemptEnd, world_size: int, *, was_asked_to_end: bool = False
) -> Quoted | None:
    """Choose whose last words are shown after an attempt: the cause's; None where nothing has failed.

    Args:
        attempt: the folder with the ranks' logs and error files.
        end: what the supervisor saw.
        world_size: ranks that were started.
        was_asked_to_end: then there is no one cause, and only those that noticed others' ends are not shown.
    """
    failures = _failures(attempt, end)
    if was_asked_to_end or end.signal is not None or end.hang is not None:
        own = frozenset(failure.rank for failure in failures if failure.certainty)
        return Quoted(own, interrupts=end.hang is not None)
    if not failures:
        return None
    cause = _cause(failures)
    other = cause.certainty < _SURE and end.lost_node
    if other or (cause.certainty == 0 and _who_left(end, failures, world_size)):
        return Quoted(frozenset())
    return Quoted(frozenset({cause.rank}))


def _cause(failures: list[RankFailure]) -> RankFailure:
    return min(failures, key=lambda failure: (-failure.certainty, failure.time_ns))


def _failures(attempt: Path, end: AttemptEnd) -> list[RankFailure]:
    """Return the failures so far, one for each rank that has failed."""
    written = dict(end.unwritten_error_records)
    written |= {int(account["rank"]): account for account in _error_records(attempt)}
    # Those of other nodes lie here, too, where the folder is shared; but in their own nodes' time.
    error_records = {rank: found for rank, found in written.items() if rank not in end.remote_hosts} | dict(
        end.remote_error_records
    )
    found = []
    for rank in error_records.keys() | end.lost.keys():
        account, status = error_records.get(rank), end.lost.get(rank)
        time_ns = int(account["time_ns"]) if account else end.end_times_ns.get(rank, 0)
        certainty = _certainty(account) if account else _certainty_of_status(attempt, end, rank)
        found.append(RankFailure(rank, time_ns, account, status, certainty))
    order = list(end.lost)
    return sorted(found, key=lambda failure: order.index(failure.rank) if failure.rank in order else -1)


def _error_records(attempt: Path) -> list[dict[str, Any]]:
    """Read what the ranks wrote before they ended."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in attempt.glob("error-*.json")]


def _certainty(account: dict[str, Any]) -> int:
    """Rate whether a rank failed by itself, or only noticed that another one was gone."""
    if account["ours"]:
        return _SURE
    aborts = [is_peer_abort(kind, message) for kind, message in exception_chain(account)]
    return 0 if all(aborts) or aborts[-1] else 1 if any(aborts) else _SURE


def _certainty_of_status(attempt: Path, end: AttemptEnd, rank: int) -> int:
    """Rate a rank that wrote nothing. NCCL's watchdog aborts one whose peer is gone, which its log shows."""
    status = end.lost.get(rank)
    if status is not None and status & 0x7F == signal.SIGABRT:
        tail = end.remote_log_tails.get(rank) or _tail(attempt / f"rank-{rank}.log")
        return 0 if is_peer_abort("", tail) else _SURE
    return _SURE


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


@dataclass(frozen=True)
class _Leaver:
    """A rank that the victims waited for."""

    rank: int
    how: str
    kind: type[LockstepError]
    advice: str = "every rank has to take part to the end"


def _who_left(end: AttemptEnd, failures: list[RankFailure], world_size: int) -> _Leaver | None:
    """Find who the victims waited for: a rank that left early, or one that was still working when they gave up."""
    if (early := early_end(end)) is not None:
        how = f"ended with status 0, {early.how}, while other ranks waited for it"
        return _Leaver(early.rank, how, RankLostError, early.advice)
    busy = set(range(world_size)) - {failure.rank for failure in failures}
    if len(busy) != 1:
        return None
    if any(
        is_timeout(text) for found in failures if found.account for _, text in exception_chain(found.account)
    ):
        return _Leaver(
            busy.pop(), "did not come to a collective within the time limit of the others", HangError
        )
    how = "closed its connections to the other ranks, and had not ended seconds later"
    return _Leaver(busy.pop(), how, RankLostError)


def _left(
    who: _Leaver, victim: RankFailure, attempt: Path, end: AttemptEnd, world_size: int
) -> LockstepError:
    place = (victim.account or {}).get("where")
    waited = f"\nrank {victim.rank} waited for it at {place}" if place else ""
    rest = f"{_others(world_size - 1)}; exit status {who.kind.exit_status}"
    return who.kind(
        f"rank {who.rank} of {world_size} {who.how}{_pid(who.rank, end)}{waited}\n{rest}",
        _log(who.advice, attempt, who.rank),
    )


def _node_lost(words: str) -> LockstepError:
    hint = "look at that machine and the network; `launch resume` continues a training"
    return RankLostError(f"{words}; exit status {_LOST}", hint)


def _pid(rank: int, end: AttemptEnd) -> str:
    if rank in end.remote_hosts:
        return f" (on {end.remote_hosts[rank]})"
    return f" (pid {end.pids[rank]})" if rank in end.pids else ""


def _log(hint: str, attempt: Path, rank: int) -> str:
    log = f"its log is {attempt / f'rank-{rank}.log'}"
    return f"{hint}; {log}" if hint else log


def _not_started(attempt: Path, end: AttemptEnd) -> LockstepError:
    """Blame the agent, because no rank has reported anything."""
    status = end.agent_status
    if status is not None and status < 0:
        name = signal_name(-status)
        return RankLostError(
            f"the agent, which starts the ranks, was killed by {name}", "start the run again"
        )
    return RankLostError("the ranks could not be started", f"see {attempt / 'agent.log'}")


def _error_of_exception(cause: RankFailure, attempt: Path, end: AttemptEnd, world_size: int) -> LockstepError:
    account = cause.account or {}
    known = error_from_json(account)
    known.exit_status = int(account["exit_status"])
    if account["ours"]:
        return known
    killed = is_killed_worker(account) and memory_kills_at(end, cause.rank) > 0
    if killed or is_out_of_memory(account):
        known.exit_status = MemoryLimitError.exit_status
    if killed:
        known.hint = f"{memory_place(end, cause.rank)}: {_LESS_MEMORY}"
    tail = end.remote_log_tails.get(cause.rank) or _tail(attempt / f"rank-{cause.rank}.log")
    known.hint = (
        known.hint
        or hint_for_log(tail)
        or hint_for("DataLoader worker" if is_dataloader_failure(account) else account["type"], known.message)
    )
    who = f"rank {cause.rank} of {world_size}"
    where = f"\nat {account['where']}" if account["where"] else ""
    known.message = f"{who}: {_short(known.message)}{where}{_pid(cause.rank, end)}"
    log = attempt / f"rank-{cause.rank}.log"
    seen = f"the traceback is in {log}"
    if cause.rank in end.unwritten_error_records:
        seen = f"its folder takes no more writes, and {log} may be cut off"
    known.hint = f"{known.hint}; {seen}" if known.hint else seen
    return known


def _short(message: str) -> str:
    """Shorten a text to six lines; what is in the middle of a long one says least."""
    lines = [line[:_WIDTH] for line in re.sub(r"\n\s*\n+", "\n", message.strip()).split("\n")]
    return "\n".join([*lines[: _LINES - 2], "…", lines[-1]] if len(lines) > _LINES else lines)


def _died_without_record_error(
    cause: RankFailure, attempt: Path, end: AttemptEnd, world_size: int
) -> LockstepError:
    who, status = f"rank {cause.rank} of {world_size}", cause.status
    if status is not None and status & 0x7F == signal.SIGKILL and memory_kills_at(end, cause.rank):
        return MemoryLimitError(
            f"{who} was killed by SIGKILL: {memory_place(end, cause.rank)}{_pid(cause.rank, end)}",
            _log(_LESS_MEMORY, attempt, cause.rank),
        )
    number = 0 if status is None else status & 0x7F
    hint = hint_for(signal_name(number), "") if number else _hint_for_exit(status)
    if is_disk_full(attempt):
        hint = f"the disk with {attempt.parent} is full, and nothing can be said on it: make room there"
    return RankLostError(
        f"{who} {_how(status)} before its work was done{_pid(cause.rank, end)}",
        _log(hint, attempt, cause.rank),
    )


def _hint_for_exit(status: int | None) -> str:
    """Guess why a rank has ended by itself without a word; of Python's own 120 the status is told beside it."""
    return "" if status is None or status >> 8 == _FLUSH_FAILED else NO_WORD


def _how(status: int | None) -> str:
    """Return a wait status in words."""
    if status is None:
        return "ended"
    number = status & 0x7F
    if number:
        return f"was killed by {signal_name(number)}"
    return f"ended with status {status >> 8}"


def _with_others(
    error: LockstepError, cause: RankFailure, failures: list[RankFailure], world_size: int
) -> LockstepError:
    """Add how many other ranks ended with it; they are counted, not quoted."""
    same = [
        other
        for other in failures
        if other.rank != cause.rank
        and other.certainty == _SURE
        and failure_signature(other.account) == failure_signature(cause.account)
    ]
    alike = f"{_count(len(same))} failed in the same way" if same and cause.account else ""
    rest = world_size - 1 - (len(same) if alike else 0)
    parts = [part for part in (alike, _others(rest) if rest else "") if part]
    if not (cause.account or {}).get("ours"):
        error.message += "\n" + "; ".join([*parts, f"exit status {error.exit_status}"])
    return error


def _others(count: int) -> str:
    return f"{_count(count)} ended because of it"


def _count(count: int) -> str:
    return f"{count} other rank{'s' * (count != 1)}"

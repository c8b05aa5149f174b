from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from lockstep.launcher.failures.attempt_end import AttemptEnd
from lockstep.launcher.failures.root_cause import diagnose_failure, is_root_cause_known, quoted_ranks
from tests.helpers.rank_errors import EXIT_3_STATUS, SIGKILL_STATUS, write_error, write_victim_error


def test_where_every_rank_is_done_there_is_no_failure(tmp_path: Path) -> None:
    assert diagnose_failure(tmp_path, AttemptEnd(done={0, 1}, agent_status=0), 2) is None


def test_the_rank_that_raised_is_named_with_its_place_and_log(tmp_path: Path) -> None:
    write_error(tmp_path, 1)
    error = diagnose_failure(tmp_path, AttemptEnd(lost={1: EXIT_3_STATUS}), 3)
    assert error is not None
    assert error.message.startswith(
        "rank 1 of 3: ValueError: broken\nat model.py:7\n2 other ranks ended because of it"
    )
    assert str(tmp_path / "rank-1.log") in error.hint
    assert error.exit_status == 1


def test_a_victim_is_not_the_cause_even_if_it_was_written_first(tmp_path: Path) -> None:
    write_victim_error(tmp_path, 0, time_ns=1)
    write_error(tmp_path, 2, time_ns=2)
    write_victim_error(tmp_path, 1, time_ns=3)
    error = diagnose_failure(
        tmp_path, AttemptEnd(lost={0: EXIT_3_STATUS, 1: EXIT_3_STATUS, 2: EXIT_3_STATUS}), 3
    )
    assert error is not None
    assert "rank 2 of 3: ValueError: broken" in error.message


@pytest.mark.parametrize("kind", ["DistBackendError", "DistNetworkError", "DistStoreError"])
def test_errors_of_the_process_group_are_victims(tmp_path: Path, kind: str) -> None:
    write_error(tmp_path, 0, time_ns=1, type=kind, message=f"{kind}: something")
    write_error(tmp_path, 1, time_ns=2)
    error = diagnose_failure(tmp_path, AttemptEnd(lost={0: EXIT_3_STATUS, 1: EXIT_3_STATUS}), 2)
    assert error is not None
    assert "rank 1 of 2" in error.message


def test_of_several_causes_the_first_is_told(tmp_path: Path) -> None:
    write_error(tmp_path, 0, time_ns=20, message="ValueError: second")
    write_error(tmp_path, 1, time_ns=10, message="ValueError: first")
    error = diagnose_failure(tmp_path, AttemptEnd(lost={0: EXIT_3_STATUS, 1: EXIT_3_STATUS}), 2)
    assert error is not None
    assert "first" in error.message


def test_a_rank_that_vanished_is_the_cause_where_the_others_only_noticed(tmp_path: Path) -> None:
    write_victim_error(tmp_path, 0, time_ns=1)
    error = diagnose_failure(tmp_path, AttemptEnd(lost={1: SIGKILL_STATUS, 0: EXIT_3_STATUS}), 2)
    assert error is not None
    assert "rank 1 of 2 was killed by SIGKILL" in error.message
    assert error.exit_status == 4


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (SIGKILL_STATUS, "was killed by SIGKILL"),
        (int(signal.SIGSEGV) | 0x80, "was killed by SIGSEGV"),
        (int(signal.SIGRTMIN) + 1, "was killed by SIGRTMIN+1"),
        (0, "ended with status 0"),
        (EXIT_3_STATUS, "ended with status 3"),
        (None, "ended before"),
    ],
)
def test_how_a_silent_rank_ended_is_said_in_words(tmp_path: Path, status: int | None, words: str) -> None:
    error = diagnose_failure(tmp_path, AttemptEnd(done={1}, lost={0: status}), 2)
    assert error is not None
    assert f"rank 0 of 2 {words}" in error.message


def test_where_all_are_victims_the_first_of_them_is_told(tmp_path: Path) -> None:
    write_victim_error(tmp_path, 1, time_ns=1)
    write_victim_error(tmp_path, 0, time_ns=2)
    error = diagnose_failure(tmp_path, AttemptEnd(lost={0: EXIT_3_STATUS, 1: EXIT_3_STATUS}), 2)
    assert error is not None
    assert "rank 1 of 2" in error.message


def test_an_error_of_our_own_stands_as_it_is_with_its_status(tmp_path: Path) -> None:
    write_error(
        tmp_path, 0, ours=True, kind="DamagedError", message="row 3: bad", hint="correct it", exit_status=6
    )
    error = diagnose_failure(tmp_path, AttemptEnd(lost={0: EXIT_3_STATUS}), 2)
    assert error is not None
    assert (error.message, error.hint, error.exit_status) == ("row 3: bad", "correct it", 6)


def test_out_of_memory_keeps_its_hint_and_its_status(tmp_path: Path) -> None:
    write_error(tmp_path, 0, kind="MemoryLimitError", hint="set data.max_micro_batch", exit_status=7)
    error = diagnose_failure(tmp_path, AttemptEnd(lost={0: EXIT_3_STATUS}), 1)
    assert error is not None
    assert error.exit_status == 7
    assert error.hint.startswith("set data.max_micro_batch; the traceback is in ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_command_is_no_failure_of_a_rank(tmp_path: Path, number: signal.Signals) -> None:
    write_error(tmp_path, 0)
    error = diagnose_failure(tmp_path, AttemptEnd(lost={0: EXIT_3_STATUS}, signal=number), 2)
    assert error is not None
    assert (error.message, error.exit_status) == (f"interrupted by {number.name}", 128 + number)


def test_ranks_that_never_started_lead_to_the_agents_log(tmp_path: Path) -> None:
    error = diagnose_failure(tmp_path, AttemptEnd(agent_status=1), 2)
    assert error is not None
    assert "could not be started" in error.message
    assert str(tmp_path / "agent.log") in error.hint


def test_a_rank_that_was_done_and_then_lost_another_is_not_a_success(tmp_path: Path) -> None:
    assert diagnose_failure(tmp_path, AttemptEnd(done={0}, lost={}, agent_status=0), 2) is not None


LEFT = 30


@pytest.mark.parametrize(
    ("seen", "how", "advice"),
    [
        ({}, "at the end of its script", "a loop or an `if` that depends on the rank"),
        (
            {"exit_places": {1: "train.py:12"}},
            "by sys.exit() or the like at train.py:12",
            "an all_reduce of the",
        ),
        (
            {"exited_without_finalizing": frozenset({1})},
            "by os._exit or the like",
            "os._exit, or a library in C",
        ),
    ],
)
def test_of_a_rank_that_left_early_it_is_told_how_who_waited_where_and_what_to_look_for(
    tmp_path: Path, seen: dict[str, Any], how: str, advice: str
) -> None:
    write_victim_error(tmp_path, 0, time_ns=40)
    ends = {1: LEFT, 2: LEFT + 5}
    error = diagnose_failure(
        tmp_path,
        AttemptEnd(done={1, 2}, lost={0: EXIT_3_STATUS}, end_times_ns=ends, pids={1: 7}, **seen),
        3,
        script=True,
    )
    assert error is not None
    head, waited, rest = error.message.split("\n")
    assert head == f"rank 1 of 3 ended with status 0, {how}, while other ranks waited for it (pid 7)"
    assert waited == "rank 0 waited for it at torch.py:1"
    assert rest == "2 other ranks ended because of it; exit status 4"
    assert advice in error.hint


@pytest.mark.parametrize("status", [0, EXIT_3_STATUS])
def test_a_rank_that_ended_without_a_word_has_a_guess_at_why(tmp_path: Path, status: int) -> None:
    error = diagnose_failure(tmp_path, AttemptEnd(done={1}, lost={0: status}), 2)
    assert error is not None
    assert error.hint.startswith(
        "os._exit, or a library in C, ended it without an error of Python's; its log"
    )


def quoted(tmp_path: Path, *, asked: bool = False, **end: Any) -> set[int] | None:
    """The ranks whose last words are shown at an end of four."""
    found = quoted_ranks(tmp_path, AttemptEnd(**end), 4, was_asked_to_end=asked)
    return None if found is None else set(found.ranks)


def test_the_words_of_the_cause_are_quoted_not_those_of_its_victims(tmp_path: Path) -> None:
    assert quoted(tmp_path, done={0, 1, 2, 3}) is None
    write_victim_error(tmp_path, 0, time_ns=1)
    assert quoted(tmp_path, lost={0: EXIT_3_STATUS}) == {0}  # as far as is known
    write_error(tmp_path, 2, time_ns=2)
    write_error(tmp_path, 3, time_ns=3)  # fails in the same way
    assert quoted(tmp_path, lost={0: EXIT_3_STATUS, 2: EXIT_3_STATUS, 3: EXIT_3_STATUS}) == {2}


def test_victims_of_a_rank_or_node_that_is_gone_are_not_quoted(tmp_path: Path) -> None:
    write_victim_error(tmp_path, 0, time_ns=1)
    assert quoted(tmp_path, done={3}, lost={0: EXIT_3_STATUS}) == set()  # it left early
    assert quoted(tmp_path, lost={1: SIGKILL_STATUS, 0: EXIT_3_STATUS}) == {1}
    assert quoted(tmp_path, lost={0: EXIT_3_STATUS}, lost_node="node 1 was lost") == set()


@pytest.mark.parametrize(("asked", "end"), [(True, {}), (False, {"signal": signal.SIGTERM})])
def test_at_an_end_that_was_asked_for_whatever_failed_by_itself_is_quoted(
    tmp_path: Path, *, asked: bool, end: dict[str, Any]
) -> None:
    write_victim_error(tmp_path, 0, time_ns=1)
    write_error(tmp_path, 2, time_ns=2)
    interrupted = int(signal.SIGINT)
    lost = {0: EXIT_3_STATUS, 1: interrupted, 2: EXIT_3_STATUS}
    assert quoted(tmp_path, asked=asked, lost=lost, **end) == {1, 2}
    found = quoted_ranks(tmp_path, AttemptEnd(lost=lost, **end), 4, was_asked_to_end=asked)
    assert found is not None
    assert not found.interrupts


def test_an_error_that_the_disk_had_no_room_for_is_the_cause_all_the_same(tmp_path: Path) -> None:
    write_error(tmp_path, 1, message="ValueError: sent")
    sent = json.loads((tmp_path / "error-1.json").read_text())
    (tmp_path / "error-1.json").unlink()
    error = diagnose_failure(
        tmp_path, AttemptEnd(lost={1: EXIT_3_STATUS}, unwritten_error_records={1: sent}), 3
    )
    assert error is not None
    assert error.message.startswith("rank 1 of 3: ValueError: sent\nat model.py:7\n2 other ranks ended")
    assert error.hint.endswith(
        f"its folder takes no more writes, and {tmp_path / 'rank-1.log'} may be cut off"
    )
    assert error.exit_status == 1


@pytest.mark.parametrize(
    ("asked_for", "ended", "told"),
    [
        (3, 3 << 8, 3),
        (1, 120 << 8, 120),  # the last flush failed after the script had raised
        (7, 120 << 8, 120),  # a status of our own errors, too
        (3, SIGKILL_STATUS, 3),  # by the launcher, while it still ended
        (3, None, 3),
    ],
)
def test_a_script_has_the_status_with_which_its_process_ended(
    tmp_path: Path, asked_for: int, ended: int | None, told: int
) -> None:
    write_error(tmp_path, 0, type="SystemExit", message=f"sys.exit({asked_for})", exit_status=asked_for)
    lost = {} if ended is None else {0: ended}
    error = diagnose_failure(tmp_path, AttemptEnd(lost=lost), 1, script=True)
    assert error is not None
    assert error.message == f"rank 0 of 1: sys.exit({asked_for})\nat model.py:7\nexit status {told}"
    assert (error.exit_status, "stdout or stderr" in error.hint) == (told, told == 120)


def test_a_silent_end_with_pythons_own_status_is_no_end_without_python(tmp_path: Path) -> None:
    error = diagnose_failure(tmp_path, AttemptEnd(lost={0: 120 << 8}), 1, script=True)
    assert error is not None
    assert "stdout or stderr takes no more writes" in error.hint
    assert "os._exit" not in error.hint


def test_a_script_s_cause_is_known_when_it_has_ended_and_not_only_said_why(tmp_path: Path) -> None:
    """Else the supervisor ends it first, and its status is the one that it has asked for, not the one it has."""
    write_error(tmp_path, 0, type="SystemExit", message="sys.exit(3)", exit_status=3, time_ns=1)
    write_error(tmp_path, 1, type="SystemExit", message="sys.exit(3)", exit_status=3, time_ns=2)
    first, both = AttemptEnd(lost={1: 120 << 8}), AttemptEnd(lost={1: 120 << 8, 0: 120 << 8})
    assert [is_root_cause_known(tmp_path, end, script=True) for end in (first, both)] == [False, True]
    assert is_root_cause_known(tmp_path, first)  # a training's status is that of its error


def test_a_script_that_ran_out_of_memory_has_the_status_of_that(tmp_path: Path) -> None:
    write_error(tmp_path, 0, type="OutOfMemoryError", message="CUDA out of memory. Tried to allocate 2 GiB")
    error = diagnose_failure(tmp_path, AttemptEnd(lost={0: 1 << 8}), 1, script=True)
    assert error is not None
    assert error.exit_status == 7

"""Messages about ranks become the end of an attempt."""

from __future__ import annotations

import time
from typing import Any

import pytest

from lockstep.launcher.supervisor.attempt_record import AttemptRecord
from lockstep.training.rank.members import WorldChange
from tests.helpers.rank_errors import EXIT_3_STATUS, SIGKILL_STATUS


def started(rank: int, fresh: str = "") -> dict[str, Any]:
    return {"kind": "started", "rank": rank, "pid": 100 + rank, "fresh": fresh}


def done(rank: int) -> dict[str, Any]:
    return {"kind": "done", "rank": rank}


def ended(rank: int, status: int = 0) -> dict[str, Any]:
    return {"kind": "ended", "rank": rank, "status": status}


def record_of(ranks: int, *messages: dict[str, Any], requires_done: bool = True) -> AttemptRecord:
    record = AttemptRecord(range(ranks), requires_done=requires_done)
    assert [record.take(message) for message in messages] == [""] * len(messages)
    return record


def test_ranks_that_are_done_and_have_ended_are_a_good_end() -> None:
    before = time.time_ns()
    record = record_of(2, started(0), started(1), done(1), done(0))
    assert (record.all_done, record.all_ended) == (True, False)
    record.take(ended(0))
    record.take(ended(1))
    assert (record.all_done, record.all_ended, record.has_losses) == (True, True, False)
    end = record.end()
    assert (end.done, end.lost, end.exited_without_finalizing) == ({0, 1}, {}, frozenset())
    assert end.pids == {0: 100, 1: 101}
    assert before <= end.end_times_ns[0] <= end.end_times_ns[1] <= time.time_ns()


def test_a_node_that_follows_goes_by_its_own_ranks() -> None:
    """Which do not begin at 0: else nobody would watch them for hangs, or see that all have ended."""
    record = AttemptRecord(range(1, 3), requires_done=True)
    for rank in (1, 2):
        record.take(started(rank))
    assert record.member_pids == {1: 101, 2: 102}
    for message in (done(1), done(2), ended(1), ended(2)):
        record.take(message)
    assert (record.all_done, record.all_ended, record.all_gone) == (True, True, True)
    assert record.end().done == {1, 2}


def test_ranks_that_were_lost_stand_in_the_order_of_their_ends() -> None:
    record = record_of(3, ended(2, EXIT_3_STATUS), ended(0, SIGKILL_STATUS))
    assert (record.has_losses, record.all_ended) == (True, False)
    assert list(record.end().lost.items()) == [(2, EXIT_3_STATUS), (0, SIGKILL_STATUS)]


def test_where_a_report_is_required_status_0_without_it_is_a_loss() -> None:
    record = record_of(2, ended(0))
    assert record.end().lost == {0: 0}
    assert record.end().done == frozenset()


def test_where_a_report_is_required_what_is_done_stays_done_however_its_process_ends() -> None:
    record = record_of(1, done(0), ended(0, SIGKILL_STATUS))
    assert (record.end().done, record.end().lost) == ({0}, {})


def test_of_a_script_status_0_is_done_and_another_one_is_a_loss_whatever_was_reported() -> None:
    record = record_of(2, done(0), ended(0), done(1), ended(1, EXIT_3_STATUS), requires_done=False)
    end = record.end()
    assert (end.done, end.lost, end.exited_without_finalizing) == ({0}, {1: EXIT_3_STATUS}, frozenset())


def test_a_script_that_leaves_by_os_exit_is_done_and_noted() -> None:
    record = AttemptRecord([0], requires_done=False)
    assert record.take(ended(0)) == "rank 0 ended with status 0, but not as Python ends (os._exit?)"
    assert (record.end().done, record.end().exited_without_finalizing) == ({0}, {0})


@pytest.mark.parametrize(
    ("fresh", "note"),
    [
        ("", ""),
        ("asked for", ""),
        ("CUDA is initialised", "rank 1 is a fresh process, not a fork: CUDA is initialised"),
    ],
)
def test_a_process_that_is_no_fork_is_noted_unless_the_user_wants_that(fresh: str, note: str) -> None:
    assert AttemptRecord([0, 1], requires_done=True).take(started(1, fresh)) == note


def test_what_a_rank_has_to_note_is_noted() -> None:
    record = record_of(2, started(0))
    assert record.take({"kind": "note", "rank": 0, "text": "left out"}) == "left out"
    assert record.take_remote({"kind": "note", "rank": 1, "text": "as well"}, "node-b") == "as well"


def test_the_end_of_the_engine_is_the_agents() -> None:
    record = record_of(1, {"kind": "engine", "pid": 7})
    assert record.agent_status is None
    record.take({"kind": "engine ended", "status": 9})
    assert record.end().agent_status == 9


def test_a_rank_of_another_node_counts_with_its_own_time_host_and_account() -> None:
    record = record_of(2, started(0))
    account = {"rank": 1, "message": "ValueError: broken"}
    elsewhere = {**ended(1, EXIT_3_STATUS), "time_ns": 42, "account": account, "tail": "…", "memory_kills": 2}
    assert record.take_remote({**started(1), "fresh": "CUDA is initialised"}, "node-b") == ""
    assert record.take_remote(elsewhere, "node-b") == ""
    end = record.end()
    assert end.pids == {0: 100}  # the number of a process says nothing on another machine
    assert end.lost == {1: EXIT_3_STATUS}
    assert (end.end_times_ns, end.remote_hosts) == ({1: 42}, {1: "node-b"})
    assert (end.remote_error_records, end.remote_log_tails) == ({1: account}, {1: "…"})
    assert end.remote_memory_kills == {1: 2}


def test_a_script_of_another_node_that_leaves_by_os_exit_is_noted_here() -> None:
    record = AttemptRecord([0, 1], requires_done=False)
    note = record.take_remote({**ended(1), "time_ns": 42}, "node-b")
    assert note == "rank 1 ended with status 0, but not as Python ends (os._exit?)"


def test_an_end_is_a_value_that_later_messages_do_not_change() -> None:
    record = record_of(2, ended(0, EXIT_3_STATUS))
    end = record.end(lost_node="node 1 was lost")
    record.take(ended(1, SIGKILL_STATUS))
    assert (end.lost, end.lost_node) == ({0: EXIT_3_STATUS}, "node 1 was lost")
    assert list(record.end().lost) == [0, 1]


def test_an_error_that_no_file_could_take_belongs_to_the_end() -> None:
    account = {"rank": 1, "message": "ValueError: broken"}
    record = record_of(2, {"kind": "error", "rank": 1, "account": account}, ended(1, EXIT_3_STATUS))
    assert record.end().unwritten_error_records == {1: account}


def test_a_rank_that_leaves_by_request_is_no_loss_and_its_number_is_free() -> None:
    change = WorldChange(1, (0, 1), (0,))
    for order in ([done(1), ended(1), None], [done(1), None, ended(1)], [None, done(1), ended(1)]):
        record = record_of(2, started(0), started(1))
        record.begin_change(change)
        for message in order:
            record.end_change(change) if message is None else record.take(message)
        assert not (record.has_losses)
        assert not (record.are_ending)
        assert record.member_pids == record.pids == {0: 100}
        for message in (done(0), ended(0)):
            assert not (record.all_done and record.all_ended)
            record.take(message)
        assert record.all_done
        assert record.all_gone
        assert (record.end().done, record.end().lost) == ({0}, {})


def test_a_rank_that_fails_while_it_leaves_is_lost() -> None:
    record = record_of(2, started(0), started(1))
    record.begin_change(WorldChange(1, (0, 1), (0,)))
    record.take(ended(1, EXIT_3_STATUS))
    assert record.end().lost == {1: EXIT_3_STATUS}


def test_who_joins_counts_once_the_ranks_know_of_it() -> None:
    change = WorldChange(1, (0,), (0, 1, 2))
    record = record_of(1, started(0))
    record.await_joining(change)
    for message in (started(1), started(2), ended(2, EXIT_3_STATUS)):
        record.take(message)
    assert record.failed_joins == {2}
    assert record.member_pids == {0: 100}
    assert not (record.has_losses)
    assert not (record.all_gone)
    record.cancel_joining()
    assert record.are_ending
    record.take(ended(1, SIGKILL_STATUS))
    assert not (record.has_losses)
    assert not (record.are_ending)

    record.await_joining(change)
    for message in (started(1), started(2)):
        record.take(message)
    record.begin_change(change)
    record.take(ended(2, EXIT_3_STATUS))
    assert record.end().lost == {2: EXIT_3_STATUS}, "the others wait for it"


def test_processes_that_never_joined_do_not_keep_a_run_from_its_end() -> None:
    record = record_of(1, started(0))
    record.await_joining(WorldChange(1, (0,), (0, 1)))
    for message in (started(1), done(0), ended(0)):
        record.take(message)
    assert record.all_done
    assert record.all_ended
    assert not record.all_gone


def test_who_was_killed_is_no_loss_once_the_others_go_on_without_it() -> None:
    record = record_of(3, started(0), started(1), started(2), ended(1, SIGKILL_STATUS))
    assert record.killed == {1: SIGKILL_STATUS}
    assert record.has_losses
    change = WorldChange(1, (0, 1, 2), (0, 2), is_rescue=True)
    record.begin_rescue(change)
    assert not record.has_losses
    assert record.end().lost == {1: SIGKILL_STATUS}, "until they do, it is what an end comes of"
    record.end_change(change)
    assert record.end().lost == {}
    record.take(started(1))  # another one takes its place
    assert record.pids.keys() == {0, 1, 2}


def test_of_ranks_that_fail_by_themselves_none_counts_as_killed() -> None:
    record = record_of(3, ended(1, SIGKILL_STATUS), ended(2, EXIT_3_STATUS))
    assert record.killed == {}

"""Is it a hang, and whose? The pure part, as tables."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from lockstep.launcher.hang.rank_evidence import RankEvidence
from lockstep.launcher.hang.report import hang_error
from lockstep.launcher.hang.verdict import judge_program, judge_training
from lockstep.launcher.process.stack_dumps import parse

TIMEOUT = 600.0
TORCH = "/x/site-packages/torch"
IN_REDUCE = [(f"{TORCH}/distributed/distributed_c10d.py", 9, "all_reduce"), ("/u/train.py", 40, "main")]
IN_BARRIER = [(f"{TORCH}/distributed/distributed_c10d.py", 8, "barrier"), ("/u/train.py", 30, "main")]
IN_BACKWARD = [(f"{TORCH}/autograd/graph.py", 8, "_engine_run_backward"), ("/u/train.py", 44, "main")]
IN_INIT = [
    (f"{TORCH}/distributed/rendezvous.py", 198, "_create_c10d_store"),
    (f"{TORCH}/distributed/distributed_c10d.py", 7, "init_process_group"),
    ("/u/train.py", 20, "main"),
]
IN_SLEEP = [("/u/train.py", 12, "load"), ("/u/train.py", 40, "main")]
WAITS = RankEvidence(
    0, 1, "S", idle_seconds=700, stack=IN_REDUCE, still=300, step=5, phase="training", silent_seconds=700
)
JOINS = replace(WAITS, stack=IN_INIT)
STUCK = replace(WAITS, stack=IN_SLEEP)
STOPPED = replace(WAITS, stack=(), state="T")
LEFT = RankEvidence(0, has_ended=True, idle_seconds=700)
BUSY = replace(STUCK, idle_seconds=1)
SPINS = replace(WAITS, idle_seconds=0, device=True)


def world(*ranks: RankEvidence) -> list[RankEvidence]:
    return [replace(rank, rank=number) for number, rank in enumerate(ranks)]


TRAINING = {  # what the ranks are at -> culprits; None is not a hang, an empty list is a hang of nobody's
    "one stopped": ([WAITS, STOPPED, WAITS], [1]),
    "one asleep": ([WAITS, WAITS, STUCK], [2]),
    "stopped goes before asleep": ([STUCK, STOPPED, WAITS], [1]),
    "one process alone": ([STUCK], [0]),
    "another collective": ([WAITS, replace(WAITS, stack=IN_BARRIER), WAITS], [1]),
    "another step": ([WAITS, replace(WAITS, step=4), WAITS], [1]),
    "another phase": ([WAITS, WAITS, replace(WAITS, phase="evaluation")], [2]),
    "nobody's": ([WAITS, replace(WAITS, stack=IN_BARRIER)], []),
    "left early": ([WAITS, LEFT], [1]),
    "spinning in a wait for the GPU": ([SPINS, STUCK, SPINS], [1]),
    "one has progress": ([WAITS, replace(WAITS, silent_seconds=10)], None),
    "computing": ([WAITS, BUSY], None),
    "computing for too long": ([WAITS, replace(BUSY, silent_seconds=1801)], [1]),
    "backward without a GPU is work": ([WAITS, replace(BUSY, stack=IN_BACKWARD)], None),
    "a start": ([WAITS, replace(STUCK, phase="starting")], None),
    "a start for too long": ([WAITS, replace(STUCK, phase="starting", silent_seconds=1801)], [1]),
    "a start that compiles": ([WAITS, replace(BUSY, phase="starting", silent_seconds=9999)], None),
    "a start that computed until just now": (
        [WAITS, replace(STUCK, phase="starting", idle_seconds=500, silent_seconds=9999)],
        None,
    ),
    "a first step that compiles": ([WAITS, replace(BUSY, before_first_step=True, silent_seconds=9999)], None),
    "a checkpoint": ([replace(STUCK, phase="checkpoint"), WAITS], None),
    "all wait for the horizon": ([replace(STUCK, phase="waiting")] * 2, None),
    "somebody looks with a debugger": ([WAITS, replace(STUCK, state="t")], None),
    "all done": ([LEFT, LEFT], None),
}


@pytest.mark.parametrize("case", TRAINING)
def test_a_training_hangs(case: str) -> None:
    ranks, culprits = TRAINING[case]
    verdict = judge_training(world(*ranks), TIMEOUT, TIMEOUT)
    assert (None if verdict is None else [rank.rank for rank in verdict.culprits]) == culprits


PROGRAM = {
    "one stopped": ([WAITS, STOPPED, WAITS], [1], True),
    "one asleep": ([WAITS, STUCK], [1], True),
    "one has left": ([WAITS, LEFT], [1], True),
    "one that is there goes before one that left": ([WAITS, LEFT, STUCK], [2], True),
    "spinning in a wait for the GPU": ([SPINS, STUCK], [1], True),
    "another collective": ([WAITS, WAITS, replace(WAITS, stack=IN_BARRIER)], [2], True),
    "half of the time": ([replace(WAITS, idle_seconds=310), replace(STUCK, idle_seconds=310)], [1], False),
    "seen once": ([replace(WAITS, still=0), STUCK], [1], False),
    "all asleep": ([STUCK, STUCK], None, False),
    "one process alone": ([STUCK], None, False),
    "all in one place": ([WAITS, WAITS], None, False),
    "all join, and nobody is left to come": ([JOINS, JOINS], [], True),
    "all join, seen once": ([JOINS, replace(JOINS, still=0)], [], False),
    "one process joins nobody": ([JOINS], [], True),
    "one joins later": ([JOINS, BUSY], None, False),
    "one computes": ([WAITS, BUSY], None, False),
    "one downloads": ([WAITS, WAITS, replace(STUCK, idle_seconds=2)], None, False),
    "one that tells nothing": ([WAITS, replace(STUCK, stack=())], None, False),
    "at a prompt": ([WAITS, replace(STUCK, source='input("go on? ")')], None, False),
    "less than half of the time": (
        [replace(WAITS, idle_seconds=200), replace(STUCK, idle_seconds=200)],
        None,
        False,
    ),
}


@pytest.mark.parametrize("case", PROGRAM)
def test_a_program_hangs(case: str) -> None:
    ranks, culprits, certain = PROGRAM[case]
    verdict = judge_program(world(*ranks), TIMEOUT)
    assert (None if verdict is None else [rank.rank for rank in verdict.culprits]) == culprits
    assert verdict is None or verdict.certain == certain


def test_the_card_is_short_and_says_who_waits_where() -> None:
    verdict = judge_training(world(*[WAITS] * 6, STOPPED, WAITS), TIMEOUT, TIMEOUT)
    assert verdict is not None
    error = hang_error(verdict, 8, TIMEOUT)
    assert error.exit_status == 5
    assert error.message.startswith("rank 6 of 8 hangs: it is stopped")
    assert "in phase training, after 5 steps" in error.message
    assert "ranks 0-5,7 wait for it in all_reduce at /u/train.py:40" in error.message
    assert len(error.message.splitlines()) + 1 <= 12


def test_where_nobody_is_left_to_join_the_card_says_what_to_leave_to_the_launcher() -> None:
    verdict = judge_program(world(JOINS, JOINS), TIMEOUT)
    assert verdict is not None
    error = hang_error(verdict, 2, TIMEOUT)
    assert error.message.startswith("all 2 ranks wait for each other")
    assert "ranks 0-1 wait in init_process_group at /u/train.py:20" in error.message
    assert error.hint.startswith("leave MASTER_ADDR and MASTER_PORT to the launcher; ")


def test_evidence_travels_as_json() -> None:
    assert RankEvidence.from_json(json.loads(json.dumps(WAITS.to_json()))) == WAITS


def test_a_dump_is_read_thread_by_thread() -> None:
    text = (
        "Thread 0x00007f (most recent call first):\n"
        '  File "/a b.py", line 3 in run\n\n'
        "Current thread 0x00008f (most recent call first):\n"
        '  File "/c.py", line 5 in inner\n  File "/c.py", line 9 in <module>\n'
    )
    assert parse(text.splitlines()) == [
        [("/a b.py", 3, "run")],
        [("/c.py", 5, "inner"), ("/c.py", 9, "<module>")],
    ]

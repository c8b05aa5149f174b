"""The limit that a run learns from its own times: simulated clocks, recorded times, no process."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lockstep.launcher.hang.progress_times import FACTOR, FIRST_STEPS, ProgressTimes
from lockstep.launcher.hang.rank_evidence import RankEvidence
from lockstep.launcher.hang.report import hang_error
from lockstep.launcher.hang.verdict import judge_training

CEILING, LEAST = 600.0, 10.0


class Run:
    """One rank's signs of life on a clock of its own."""

    def __init__(self, first: int = 0, rank: int = 0, times: ProgressTimes | None = None) -> None:
        self.times = times or ProgressTimes()
        self.rank, self.step, self.clock, self.phase = rank, first, 0.0, "starting"
        self.say("starting")
        self.pass_time(7)
        self.say("training")

    def say(self, phase: str) -> None:
        self.phase, self.clock = phase, self.clock + 1e-6
        self.times.see(self.rank, self.step, phase, int(self.clock * 1e9) + 1)

    def pass_time(self, seconds: float) -> None:
        self.clock += seconds

    def steps(self, count: int, seconds: float) -> None:
        for _ in range(count):
            self.pass_time(seconds)
            self.step += 1
            self.say("training")

    def through(self, phase: str, seconds: list[float]) -> None:
        """A phase with signs of life at these distances, then training again."""
        self.say(phase)
        for each in seconds[:-1]:
            self.pass_time(each)
            self.say(phase)
        self.pass_time(seconds[-1])
        self.say("training")

    def limit(self) -> float:
        return self.times.hang_limit(CEILING, LEAST).seconds


def test_quick_steps_are_held_to_ten_seconds_and_slow_ones_to_twenty_times_the_slowest() -> None:
    run = Run()
    run.steps(1, 90)  # compiles
    run.steps(FIRST_STEPS - 1, 0.05)
    assert run.limit() == CEILING
    run.steps(2, 0.05)
    assert run.limit() == LEAST
    assert run.times.slowest_step == pytest.approx(90)
    run.steps(1, 2.5)
    found = run.times.hang_limit(CEILING, LEAST)
    assert (found.seconds, found.kind, found.slowest) == (
        pytest.approx(FACTOR * 2.5),
        "step",
        pytest.approx(2.5),
    )
    run.steps(1, 45)
    assert run.limit() == CEILING
    assert run.times.hang_limit(CEILING, LEAST).kind is None
    assert Run(7504).times.hang_limit(0, LEAST).seconds == 0  # "never" stays never


def test_a_user_may_ask_for_more_and_gets_no_more_than_the_ceiling() -> None:
    run = Run()
    run.steps(FIRST_STEPS + 2, 0.05)
    assert run.times.hang_limit(CEILING, 120).seconds == 120
    assert run.times.hang_limit(CEILING, 1000).seconds == CEILING
    assert run.times.hang_limit(4, LEAST).seconds == 4


@pytest.mark.parametrize(("phase", "least"), [("evaluation", LEAST), ("checkpoint", 60.0)])
def test_the_first_of_each_kind_keeps_the_ceiling(phase: str, least: float) -> None:
    run = Run(7504)  # resumed
    run.steps(FIRST_STEPS + 5, 0.05)
    run.say(phase)
    assert run.limit() == CEILING
    run.through(phase, [0.2, 0.2, 0.2])
    assert run.limit() == LEAST  # of steps again
    run.say(phase)
    assert run.limit() == least
    run.through(phase, [5.0])
    run.say(phase)
    assert run.limit() == pytest.approx(100)
    for other in ("ending", "starting"):
        run.say(other)
        assert run.limit() == CEILING
    run.say("waiting")
    assert run.limit() == CEILING  # nobody is at work


def test_where_ranks_do_different_things_the_longest_limit_counts() -> None:
    times = ProgressTimes()
    runs = [Run(rank=rank, times=times) for rank in range(3)]
    for run in runs:
        run.steps(FIRST_STEPS + 5, 0.05)
    assert runs[0].limit() == LEAST
    runs[1].say("waiting")
    assert runs[0].limit() == LEAST
    runs[2].pass_time(1)
    runs[2].say("evaluation")
    assert runs[0].limit() == CEILING


def test_a_look_that_came_late_does_not_make_steps_slow() -> None:
    run = Run()
    run.steps(FIRST_STEPS + 5, 0.05)
    run.pass_time(4)
    run.step += 80
    run.say("training")
    assert run.limit() == LEAST


LIBRARY = ("/usr/lib/python3/threading.py", 9, "wait")
USER = ("/u/train.py", 12, "load")
IN_REDUCE = [("/x/site-packages/torch/distributed/distributed_c10d.py", 9, "all_reduce"), USER]
STALLS = {  # what a rank looks like while the others wait for it
    "a compiler": {"idle_seconds": 0.3, "stack": [USER]},
    "a disk": {"held": True, "stack": [USER]},
    "a network": {"stack": [USER]},  # in poll or recv: not asleep
    "another thread": {"asleep": True, "stack": [LIBRARY, USER]},
    "a debugger": {"asleep": True, "stack": [USER], "state": "t"},
    "nobody knows": {"asleep": True},
}
HANGS = {"asleep": {"asleep": True, "stack": [USER]}, "stopped": {"state": "T"}}


def is_alarm(run: Run, what: dict[str, Any], silent: float) -> bool:
    """Whether a look after so many silent seconds calls a hang, where three ranks wait for a fourth."""
    seen = {"idle_seconds": silent, "silent_seconds": silent, "step": run.step, "phase": run.phase}
    waiting = [RankEvidence(rank, rank, "S", stack=IN_REDUCE, **seen) for rank in range(3)]
    stalled = RankEvidence(3, 3, **({"state": "S"} | seen | what))
    return judge_training([*waiting, stalled], CEILING, run.limit()) is not None


@dataclass(frozen=True)
class Sign:
    """The time to one sign of life, and what the rank is at until then, where that is worth a look."""

    phase: str
    seconds: float
    stall: str = ""


def recorded(kind: str, draw: random.Random) -> Iterator[Sign]:
    """Ten hours of a run, each with troubles of its own."""
    spent, step = 0.0, 0
    while spent < 36_000:
        step += 1
        signs = [Sign("training", draw.lognormvariate(-1.2, 0.35) * (60 if kind == "slow steps" else 1))]
        if kind == "compiles" and step in (1, 2, 1500, 40_000):
            signs = [Sign("training", 280.0, "a compiler")]
        if kind == "stalls" and draw.random() < 0.0005:
            signs = [Sign("training", draw.uniform(0.5, 590), draw.choice([*STALLS]))]
        if step % 2000 == 0:
            signs += [Sign("evaluation", draw.lognormvariate(-2, 0.5)) for _ in range(50)]
            slow = (
                draw.uniform(99, 590)
                if kind == "slow file system" and step % 10_000 == 0
                else draw.uniform(1, 3)
            )
            signs.append(Sign("checkpoint", slow, "a disk"))
        spent += sum(sign.seconds for sign in signs)
        yield from signs


@pytest.mark.parametrize("kind", ["quiet", "slow steps", "compiles", "stalls", "slow file system"])
def test_ten_hours_of_a_run_that_is_slow_but_alive_raise_no_alarm(kind: str) -> None:
    run, draw, shortest, looked = Run(), random.Random(kind), CEILING, 0
    for sign in recorded(kind, draw):
        if sign.phase != run.phase:
            run.say(sign.phase)
        shortest = min(shortest, run.limit())
        if sign.seconds > run.limit():
            looked += 1
            assert sign.stall, (kind, sign, run.limit())  # ordinary times do not even raise a suspicion
            for share in (0.0, 0.5, 1.0):
                silent = run.limit() + share * (sign.seconds - run.limit())
                assert not is_alarm(run, STALLS[sign.stall], silent), (sign, run.limit())
        run.pass_time(sign.seconds)
        run.step += sign.phase == "training"
        run.say(sign.phase)
    assert shortest < CEILING  # else it has learned nothing
    assert bool(looked) == (kind in ("compiles", "stalls", "slow file system"))


@pytest.mark.parametrize("how", HANGS)
def test_a_hang_is_called_as_soon_as_the_learned_limit_is_over(how: str) -> None:
    run = Run()
    run.steps(200, 0.05)
    assert not is_alarm(run, HANGS[how], LEAST - 0.1)
    assert is_alarm(run, HANGS[how], LEAST)
    run.say("evaluation")  # the first one
    assert not is_alarm(run, HANGS[how], LEAST)
    assert not is_alarm(run, HANGS["asleep"], CEILING - 1)


def test_ranks_that_all_wait_are_a_hang_where_they_wait_in_different_places() -> None:
    waits = RankEvidence(
        0, 0, "S", idle_seconds=11.0, stack=IN_REDUCE, step=9, phase="training", silent_seconds=11.0
    )
    elsewhere = replace(
        waits, rank=1, stack=[("/x/site-packages/torch/distributed/d.py", 3, "barrier"), USER]
    )
    assert judge_training([waits, replace(waits, rank=1)], CEILING, LEAST) is None  # a network may keep them
    found = judge_training([waits, elsewhere], CEILING, LEAST)
    assert found is not None
    assert found.culprits == []
    left = RankEvidence(1, has_ended=True, idle_seconds=11.0)
    assert judge_training([waits, left], CEILING, LEAST) is None  # that is the supervisor's to see


def test_the_card_says_what_the_limit_was_learned_from_and_what_to_do() -> None:
    run = Run()
    run.steps(50, 0.8)
    stuck = RankEvidence(1, 7, "T", idle_seconds=17.0, step=50, phase="training", silent_seconds=17.0)
    limit = run.times.hang_limit(CEILING, LEAST)
    verdict = judge_training([stuck], CEILING, limit.seconds)
    assert verdict is not None
    error = hang_error(verdict, 2, CEILING, limit)
    assert (
        "the limit of 16 s is this run's own: its slowest step took 0.8 s, and it is 20 times that"
        in error.message
    )
    assert error.hint.endswith("--hang-timeout-min above 16")
    assert hang_error(verdict, 2, 5.0, limit).hint.endswith("--hang-timeout above 5")

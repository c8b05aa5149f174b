"""Faults of ``launch run``: fault x rank x moment gives the right culprit and status, and leaves no process."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.conftest import LAUNCH, WATCHDOG

FAULTY = str(Path(__file__).parent / "faulty.py")
WORLD = 3
CARD = 12  # lines
SEED = 4
EXPECTED = {  # fault -> exit status, words of the card
    "raise": (1, "ValueError: my own error"),
    "slow-raise": (1, "ValueError: my own error"),
    "exit-0": (4, "ended with status 0, by os._exit or the like"),
    "exit-7": (7, "sys.exit(7)"),
    "kill": (4, "was killed by SIGKILL"),
    "abort": (4, "was killed by SIGABRT"),
    "worker": (1, "DataLoader"),  # or that it broke off in the middle of a batch, with this in the hint
    "sample": (1, "KeyError: 'my sample broke'"),
    "memory": (7, "can't allocate memory"),
}
MOMENTS = ("start", "middle", "end")
# A rank that leaves with status 0 before it joins is a hang for the others, which no exit tells of.
TABLE = [
    (fault, rank, moment)
    for fault in EXPECTED
    for rank in range(WORLD)
    for moment in MOMENTS
    if (fault, moment) != ("exit-0", "start")
]
SAMPLE = {("slow-raise", 1, "middle"), ("sample", 2, "middle"), *random.Random(SEED).sample(TABLE, 3)}


@dataclass
class Started:
    """A ``launch run`` of the faulty program; every process of it carries one mark."""

    arguments: list[str]
    ready: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    nap: str = field(default_factory=lambda: f"600.{random.SystemRandom().randrange(10**12)}")
    """Seconds for which the orphans sleep, which is how they are found."""

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            [*LAUNCH, "run", "--cpu", str(WORLD), "--name", "faulty", FAULTY, *self.arguments],
            env={
                **os.environ,
                "FAULT_MARK": self.mark,
                "FAULT_READY": str(self.ready),
                "FAULT_NAP": self.nap,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def family(self) -> list[psutil.Process]:
        wanted = f"FAULT_MARK={self.mark}".encode()
        found = []
        for process in psutil.process_iter():
            try:
                about = Path(f"/proc/{process.pid}")
                words = (about / "environ").read_bytes() + b"\0" + (about / "cmdline").read_bytes()
                if {wanted, self.nap.encode()} & set(words.split(b"\0")):
                    found.append(process)
            except OSError:
                continue
        return [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + WATCHDOG
        while not self.ready.exists():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def agent(self) -> psutil.Process:
        (agent,) = psutil.Process(self.process.pid).children()
        return agent

    def end(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=WATCHDOG)
        return self.process.returncode, err

    def check_nothing_is_left(self) -> None:
        deadline = time.monotonic() + 20
        while (left := self.family()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left == []


@pytest.fixture
def started(tmp_path: Path) -> Iterator[list[Started]]:
    runs: list[Started] = []
    yield runs
    for run in runs:
        for process in run.family():
            process.kill()
        run.process.communicate()


def start(started: list[Started], tmp_path: Path, *arguments: str) -> Started:
    started.append(Started(list(arguments), tmp_path / "ready"))
    return started[-1]


def cases() -> list[object]:
    marked = []
    for case in TABLE:
        mark = [] if case in SAMPLE else [pytest.mark.exhaustive]
        marked.append(pytest.param(*case, marks=mark, id="-".join(map(str, case))))
    return marked


@pytest.mark.parametrize(("fault", "rank", "moment"), cases())
def test_the_culprit_is_named_and_nothing_is_left(
    started: list[Started], tmp_path: Path, fault: str, rank: int, moment: str
) -> None:
    run = start(started, tmp_path, fault, str(rank), moment)
    status, err = run.end()
    expected, words = EXPECTED[fault]
    card = err[err.rindex("\nerror: ") + 1 :]
    assert status == expected, err
    assert card.startswith(f"error: rank {rank} of {WORLD}"), err
    assert words in card
    assert len(card.splitlines()) <= CARD
    run.check_nothing_is_left()
    outcome = json.loads((Path(os.environ["LOCKSTEP_RUNS"]) / "faulty" / "outcome.json").read_text())
    assert (outcome["status"], outcome["exit_code"]) == ("failed", expected)


@pytest.mark.parametrize("victim", ["supervisor", pytest.param("agent", marks=pytest.mark.exhaustive)])
def test_whoever_of_supervisor_and_agent_is_left_ends_everything(
    started: list[Started], tmp_path: Path, victim: str
) -> None:
    run = start(started, tmp_path, "wait", "1", "middle")
    run.wait_until_ready()
    assert len(run.family()) == 2 + 1 + 3 * WORLD  # supervisor, agent, engine, ranks with two children each
    time.sleep(1.5)  # the supervisor looks once a second
    if victim == "supervisor":
        run.process.kill()
        run.process.communicate()
    else:
        run.agent().kill()
        status, err = run.end()
        assert status == 4
        assert "the agent, which starts the ranks, was killed by SIGKILL" in err
    run.check_nothing_is_left()


@pytest.mark.exhaustive
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_closed_terminal_and_other_signals_end_everything(
    started: list[Started], tmp_path: Path, number: signal.Signals
) -> None:
    run = start(started, tmp_path, "wait", "0", "middle")
    run.wait_until_ready()
    os.killpg(run.process.pid, number)  # as a terminal does: to the group that it runs
    status, _ = run.end()
    assert status == 128 + number
    run.check_nothing_is_left()


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_a_hundred_random_kills_leave_no_orphan(started: list[Started], tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    for _ in range(100):
        run = start(started, tmp_path, "none", "0", "middle")
        time.sleep(generator.uniform(0, 4))
        family = run.family()
        if family:
            generator.choice(family).kill()
        run.end()
        run.check_nothing_is_left()
        for folder in Path(os.environ["LOCKSTEP_RUNS"]).iterdir():
            folder.rename(tmp_path / uuid.uuid4().hex)

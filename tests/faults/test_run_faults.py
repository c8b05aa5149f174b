"""Faults of ``launch run``: fault x rank x moment gives the right culprit and status, and leaves no process."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.helpers.fault_launch import HANG_TIMEOUT, WORLD, FaultyLaunch, cases, check_outcome, cleaned_up
from tests.helpers.launch import Launch, runs_folder
from tests.helpers.paths import PROGRAMS

SEED = 4
MOMENTS = ("start", "middle", "end")
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
    "stop": (5, "hangs: it is stopped (SIGSTOP or the like)"),
    "sleep": (5, "hangs: it makes no progress at"),
    "skip": (5, "hangs: it waits in barrier at"),
}
SPECIAL = {  # where the moment makes another thing of it; None is no fault at all
    ("exit-0", "start"): (5, "hangs: it has ended with status 0"),  # the others wait for it to join
    ("skip", "start"): None,
    ("skip", "end"): (4, "ended with status 0"),  # it left, and took its connections along
}
TABLE = [
    (fault, rank, moment)
    for fault in EXPECTED
    for rank in range(WORLD)
    for moment in MOMENTS
    if SPECIAL.get((fault, moment), ()) is not None
]
SAMPLE = {
    ("slow-raise", 1, "middle"),
    ("sample", 2, "middle"),
    ("stop", 0, "middle"),
    *random.Random(SEED).sample(TABLE, 3),
}
Start = Callable[..., FaultyLaunch]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(*arguments: str, timeout: str = HANG_TIMEOUT) -> FaultyLaunch:
            program = [str(PROGRAMS / "fault_script.py"), *arguments]
            options = ["--cpu", str(WORLD), "--name", "faulty", "--hang-timeout", timeout]
            return stack.enter_context(cleaned_up(FaultyLaunch(["run", *options, *program], tmp_path)))

        yield started


@pytest.mark.parametrize(("fault", "rank", "moment"), cases(TABLE, SAMPLE))
def test_the_culprit_is_named_and_nothing_is_left(start: Start, fault: str, rank: int, moment: str) -> None:
    status, words = SPECIAL.get((fault, moment)) or EXPECTED[fault]
    start(fault, str(rank), moment).check_card(rank, status, words)
    check_outcome("faulty", "failed", status)


@pytest.mark.exhaustive
def test_a_hang_is_called_soon_after_its_time(start: Start) -> None:
    """Two looks are needed: the second comes neither too early to be certain nor much later."""
    run = start("sleep", "1", "middle", timeout="16")
    status, err = run.end()
    assert status == 5, err
    found = re.search(r"wait for it in all_reduce .*\(for (\d+) s\)", err)
    assert found, err
    assert 16 <= int(found[1]) < 16 + 5


@pytest.mark.parametrize(
    ("victim", "moment"),
    cases([(v, m) for v in ("supervisor", "agent") for m in MOMENTS], [("supervisor", "middle")]),
)
def test_whoever_of_supervisor_and_agent_is_left_ends_everything(
    start: Start, victim: str, moment: str
) -> None:
    run = start("wait", "1", moment)
    run.wait_until_ready()
    if moment != "start":
        assert (
            len(run.family()) == 2 + 1 + 3 * WORLD
        )  # supervisor, agent, engine, ranks with two children each
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
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_closed_terminal_and_other_signals_end_everything(
    start: Start, moment: str, number: signal.Signals
) -> None:
    run = start("wait", "0", moment)
    run.wait_until_ready()
    os.killpg(run.process.pid, number)  # as a terminal does: to the group that it runs
    status, _ = run.end()
    assert status == 128 + number
    run.check_nothing_is_left()


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_a_hundred_random_kills_leave_no_orphan(start: Start, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    for _ in range(100):
        run = start("none", "0", "middle")
        time.sleep(generator.uniform(0, 4))
        family = run.family()
        if family:
            generator.choice(family).kill()
        run.end()
        run.check_nothing_is_left()
        for folder in runs_folder().iterdir():
            folder.rename(tmp_path / uuid.uuid4().hex)


FILLS = """
import os, sys
with open(os.path.join(os.environ["LOCKSTEP_RUNS"], "rest"), "wb", buffering=0) as rest:
    for size in (4096, 1):
        try:
            while rest.write(bytes(size)):
                pass
        except OSError:
            pass
if sys.argv[1] == "raise":
    raise ValueError("my own error")
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ("raise", 1, "rank 0 of 1: ValueError: my own error\n  at {script}:11"),
        pytest.param("7", 7, "rank 0 of 1: sys.exit(7)\n  at {script}:12", marks=pytest.mark.exhaustive),
        pytest.param("0", 0, "outcome.json: No space left on device", marks=pytest.mark.exhaustive),
    ],
)
def test_a_script_that_fills_the_disk_keeps_its_status_and_its_card(
    launch: Launch, tmp_path: Path, how: str, status: int, words: str
) -> None:
    (script := tmp_path / "fills.py").write_text(FILLS)
    runs_folder().mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", runs_folder()], check=True)
    try:
        ended = launch("run", "--cpu", "1", "--max-restarts", str(int(how == "7")), str(script), how)
    finally:
        subprocess.run(["umount", runs_folder()], check=True)
    assert (ended.status, words.format(script=script) in ended.err) == (status, True), ended.err

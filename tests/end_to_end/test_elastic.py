"""``launch scale``: processes come and go while a run trains, and its numbers show no trace of it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.common.processes import Process
from tests.end_to_end.test_bitwise import CONFIG, MORE, SAME, SEED, VARIANTS
from tests.helpers.launch import WATCHDOG, Launch, outcome_of, run_folder
from tests.helpers.warm_launch import start_launch

ELASTIC = ["train.elastic={min: 1, max: 4}", "train.epochs=100000", "checkpoint.every_epochs=50"]
BREAKABLE = '''
import pathlib

def breakable():
    """A model that cannot be built while a file is there."""
    if pathlib.Path("broken").exists():
        raise RuntimeError("the file is there")
    return cnn()
'''

DEATHS = '''
import os, pathlib, signal, time
from lockstep.training.checkpoint import background_writer
from lockstep.training.logical.gradient_tree import GradientTree
from lockstep.training.session.logical_step import LogicalStep

HERE = pathlib.Path(__file__).parent
RUN, TOTAL, WRITE, NOW = LogicalStep.run, GradientTree.total, background_writer.write_checkpoint, {}

def run(self, *args):
    """Say which step a process has come to."""
    NOW.update(number=self._group.local_rank, processes=self._group.world_size, step=self.step)
    name = HERE / f"process-{self._group.local_rank}"
    name.with_suffix(".new").write_text(f"{os.getpid()} {self.step}")
    name.with_suffix(".new").rename(name)
    return RUN(self, *args)

def total(self):
    """Die in the exchange of a step, or before others have their sums of it; the first process, too."""
    here = NOW["step"] % 7 == 3 and NOW["processes"] == 3
    deaths, number = len(list(HERE.glob("death-*"))), NOW["number"]
    if here and ((deaths, number) == (0, 1) or (HERE / "writing").exists() and (deaths, number) == (2, 0)):
        (HERE / f"death-{deaths}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    sums = TOTAL(self)
    if here and deaths == 1 and number == 0:
        await_next(1, 2)
        kill(1, deaths)
    elif here and deaths == 3 and number in (2, 0) and NOW["step"] % 2:
        await_next(1)  # rank 0 has written what these come to later
        if number == 2:
            kill(1, deaths)
    else:
        return sums
    raise RuntimeError("planted: gloo has told of the end before this process had its sums")

def write(*args):
    """Do not come to the end of a checkpoint, where the process that writes it is about to die."""
    if len(list(HERE.glob("death-*"))) == 2 and NOW["number"] == 0 and NOW["processes"] == 3:
        (HERE / "writing").touch()
        time.sleep(1e6)
    WRITE(*args)

def said(number):
    return map(int, (HERE / f"process-{number}").read_text().split())

def await_next(*numbers):
    while any(step == NOW["step"] for _, step in map(said, numbers)):
        time.sleep(0.01)

def kill(number, deaths):
    (HERE / f"death-{deaths}").touch()
    os.kill(next(said(number)), signal.SIGKILL)

LogicalStep.run, GradientTree.total, background_writer.write_checkpoint = run, total, write
'''

WATCHED = '''
import os, pathlib
from lockstep.data.common import process_start_time
from lockstep.training.session.logical_step import LogicalStep

HERE, RUN, SAID = pathlib.Path(__file__).parent, LogicalStep.run, []

def run(self, *args):
    """Say once which process this is."""
    if not SAID:
        SAID.append(os.getpid())
        name = HERE / f"process-{self._group.local_rank}"
        name.with_suffix(".new").write_text(f"{os.getpid()} {process_start_time(os.getpid())}")
        name.with_suffix(".new").rename(name)
    return RUN(self, *args)

LogicalStep.run = run

def many():
    return pictures(n=3900)
'''
SCHEDULED = (
    *("data.use=./own.py:many", "train.logical_ranks=4"),
    *("train.eval_every=70 steps", "checkpoint.every_steps=40"),
)
SCHEDULED_STEPS = 300
"""Two epochs."""
PARTS, IN_PART = 10, 20
"""Random schedules in all: their product."""


def _write(own: Path, more: str = BREAKABLE) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + MORE + more)
    (own / "exp.yaml").write_text(CONFIG)


def _start(own: Path, name: str, processes: int, *settings: str) -> subprocess.Popen[str]:
    arguments = ("train", "exp.yaml", *ELASTIC, *settings, "--cpu", str(processes), "--name", name)
    nowhere = subprocess.DEVNULL
    process = start_launch(*arguments, cwd=own, stdout=nowhere, stderr=nowhere, text=True)
    _wait_for(name, '"event": "step"')
    return process


def _wait_for(name: str, words: str) -> None:
    record = run_folder(name) / "metrics.jsonl"
    _await(lambda: record.exists() and words in record.read_text())


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WATCHDOG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _record(name: str, until: int) -> list[dict[str, Any]]:
    """What a run has measured, without its times."""
    rows = _rows(name)
    kept = ("event", "step", "epoch", "train/", "val/", "lr")
    return [
        {key: value for key, value in row.items() if key.startswith(kept)}
        for row in rows
        if row["event"] in ("step", "epoch") and row["step"] <= until
    ]


def _rows(name: str) -> list[dict[str, Any]]:
    lines = (run_folder(name) / "metrics.jsonl").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _changes(name: str) -> list[tuple[int, int]]:
    return [(row["before"], row["processes"]) for row in _rows(name) if row["event"] == "world"]


def _undisturbed(launch: Launch, own: Path, steps: int, *settings: str) -> dict[str, Any]:
    """How the run ends on one process, that nobody disturbs."""
    more = ("train.epochs=100000", "checkpoint.every_epochs=50", f"train.max_steps={steps}")
    found = launch("train", "exp.yaml", *settings, *more, "--cpu", "1", "--name", "one", "--json", cwd=own)
    assert found.status == 0, found.err
    return found.document


def _check_same(launch: Launch, own: Path, name: str, *settings: str) -> None:
    steps = outcome_of(name)["steps"]
    whole = _undisturbed(launch, own, steps, *settings)
    hashes = [key for key in SAME if key not in ("metrics", "epochs")]  # a run that ends is evaluated
    assert {key: outcome_of(name)[key] for key in hashes} == {key: whole[key] for key in hashes}
    last = (steps - 1) // 7 * 7  # of the last epoch that was evaluated, whatever the stop has cut short
    assert _record(name, last) == _record("one", last)


def test_processes_come_and_go_without_a_trace(launch: Launch, own: Path) -> None:
    """Dropout and batch norm; also what is refused, and a process that cannot join."""
    _write(own)
    model = "model.use=./own.py:breakable"
    process = _start(own, "scaled", 2, model)
    assert launch("scale", "scaled", "3", cwd=own).status == 0
    assert launch("scale", "scaled", "1", cwd=own).status == 0

    refused = launch("scale", "scaled", "5", cwd=own)
    assert (refused.status, "5 processes are not within train.elastic, 1 to 4" in refused.err) == (2, True)
    (own / "broken").touch()
    failed = launch("scale", "scaled", "2", cwd=own)
    assert failed.status == 1
    assert "process 1 could not join: RuntimeError: the file is there" in failed.err.replace("\n", " ")
    (own / "broken").unlink()

    assert launch("scale", "scaled", "4", cwd=own).status == 0
    assert launch("stop", "scaled", cwd=own).status == 0
    assert process.wait(WATCHDOG) == 75
    assert _changes("scaled") == [(2, 3), (3, 1), (1, 4)]
    assert outcome_of("scaled")["world_size"] == 4
    _check_same(launch, own, "scaled", model)
    assert launch("scale", "scaled", "2", cwd=own).status == 2
    refused = launch("scale", "one", "2", cwd=own)
    assert (refused.status, "train.elastic is not set" in refused.err) == (2, True)


def test_processes_that_die_leave_no_trace(launch: Launch, own: Path) -> None:
    """In the exchange of a step, one step behind the rest, and twice the process that writes the record."""
    _write(own, DEATHS)
    saving = ("checkpoint.every_steps=10", "checkpoint.keep_best=0")
    process = _start(own, "scaled", 3, "train.elastic.deaths=4", *saving)
    _await(lambda: len(_changes("scaled")) == 8 or process.poll() is not None)
    assert launch("stop", "scaled", cwd=own).status == 0
    assert process.wait(WATCHDOG) == 75
    assert _changes("scaled") == [(3, 2), (2, 3)] * 4
    died = [row for row in _rows("scaled") if row.get("died")]
    assert [(row["died"], row["step"] % 7) for row in died] == [([1], 3), ([1], 4), ([0], 3), ([1], 3)]
    saved = [row["step"] for row in _rows("scaled") if row["event"] == "checkpoint"]
    assert died[2]["step"] in saved, "the one that it was writing is lost"
    assert not (run_folder("scaled") / "attempt-2").exists()
    _check_same(launch, own, "scaled")


def test_what_cannot_be_elastic_is_refused_before_it_starts(launch: Launch, own: Path) -> None:
    _write(own)
    found = launch("train", "exp.yaml", ELASTIC[0], "--cpu", "5", "--dry-run", cwd=own)
    assert (found.status, "5 processes are not within 1 to 4" in found.err) == (2, True)
    found = launch(
        "train", "exp.yaml", "train.elastic={max: 2}", "train.logical_ranks=null", "--dry-run", cwd=own
    )
    assert (found.status, "set train.logical_ranks" in found.err) == (2, True)
    found = launch("train", "exp.yaml", ELASTIC[0], "--cpu", "1", "--dry-run", cwd=own)
    assert "`launch scale exp N` changes the processes, 1 to 4, as it trains" in found.out + found.err


@pytest.mark.exhaustive
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_shows_no_trace(launch: Launch, own: Path, variant: str) -> None:
    _write(own)
    draw = random.Random(variant)
    process = _start(own, "scaled", draw.randint(1, 4), *VARIANTS[variant])
    size = 0
    for _ in range(4):
        size = draw.choice([one for one in range(1, 5) if one != size])
        found = launch("scale", "scaled", str(size), cwd=own)
        assert found.status == 0 or "already" in found.err, found.err
        time.sleep(draw.random() / 2)
    assert launch("stop", "scaled", cwd=own).status == 0
    assert process.wait(WATCHDOG) == 75
    _check_same(launch, own, "scaled", *VARIANTS[variant])


def _scale_when_it_runs(launch: Launch, own: Path) -> None:
    deadline = time.monotonic() + WATCHDOG
    while (found := launch("scale", "scaled", "1", cwd=own)).status:
        assert "is not running" in found.err
        assert time.monotonic() < deadline


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(6))
def test_a_kill_or_a_stop_in_the_middle_of_a_change_ends_bounded_and_resumes_to_the_bit(
    launch: Launch, own: Path, seed: int
) -> None:
    _write(own)
    draw = random.Random(seed)
    process = _start(own, "scaled", 2, "checkpoint.every_steps=10")
    asked = start_launch("scale", "scaled", "4", cwd=own, stderr=subprocess.DEVNULL)
    time.sleep(draw.random() * 2)
    number = draw.choice([signal.SIGTERM, signal.SIGKILL])
    os.kill(process.pid, number)
    process.communicate(timeout=WATCHDOG)
    asked.wait(WATCHDOG)
    resumed = start_launch("resume", "scaled", "--cpu", "3", cwd=own, stderr=subprocess.DEVNULL)
    try:
        _scale_when_it_runs(launch, own)
        assert launch("stop", "scaled", cwd=own).status == 0
        assert resumed.wait(WATCHDOG) == 75
    finally:
        resumed.kill()
        resumed.wait()
    _check_same(launch, own, "scaled", "checkpoint.every_steps=10")


def _living(own: Path) -> list[Process]:
    said = [path.read_text().split() for path in own.glob("process-*") if not path.suffix]
    return [process for process in (Process(int(pid), int(at)) for pid, at in said) if process.is_alive]


def _disturb(launch: Launch, own: Path, process: subprocess.Popen[str], draw: random.Random) -> None:
    """Kill processes and change their number, at random, until the run has ended."""
    for _ in range(draw.randint(2, 5)):
        with suppress(subprocess.TimeoutExpired):
            process.wait(draw.random() * 1.5)
        if process.poll() is not None:
            return
        if draw.random() < 0.4:
            launch("scale", "scaled", str(draw.randint(1, 4)), cwd=own)
        elif living := _living(own):
            draw.choice(living).send_signal(signal.SIGKILL)


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(PARTS))
def test_random_schedules_of_kills_and_changes_leave_no_trace(launch: Launch, own: Path, part: int) -> None:
    _write(own, WATCHED)
    whole = _undisturbed(launch, own, SCHEDULED_STEPS, *SCHEDULED)
    expected, record = {key: whole[key] for key in SAME}, _record("one", SCHEDULED_STEPS)
    rescued = 0
    for number in range(part * IN_PART, (part + 1) * IN_PART):
        draw = random.Random(f"{SEED} {number}")
        more = (*SCHEDULED, f"train.max_steps={SCHEDULED_STEPS}", "train.elastic.deaths=100")
        process = _start(own, "scaled", draw.randint(1, 4), *more, "--max-restarts", "100")
        try:
            _disturb(launch, own, process, draw)
            assert process.wait(WATCHDOG) == 0, number
        finally:
            process.kill()
            process.wait()
        assert {key: outcome_of("scaled")[key] for key in SAME} == expected, number
        assert _record("scaled", SCHEDULED_STEPS) == record, number
        rescued += sum(1 for row in _rows("scaled") if row.get("died"))
        shutil.rmtree(run_folder("scaled"))
        for path in own.glob("process-*"):
            path.unlink()
    assert rescued > IN_PART / 4

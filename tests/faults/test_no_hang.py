"""What is not a hang, however long it takes: the same programs, alone and beside others that want the cores."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.fault_launch import BUSY_PROCESSES, FaultyLaunch, busy_cores, cases, cleaned_up
from tests.helpers.launch import runs_folder
from tests.helpers.paths import PROGRAMS

HANG_TIMEOUT = 4.0  # seconds of --hang-timeout
LONG = 2.5 * HANG_TIMEOUT  # of what a rank may do for as long as it likes
PROGRAM = [(fault, "middle") for fault in ("compute", "compute-below", "download", "write")]
PROGRAM += [("compute", "start"), ("compute", "end")]
TRAINING = [  # what rank 1 does, when, and for how many times the timeout
    ("compute", "start", 3.5),  # as long as it likes
    ("compute", "first", 3.5),
    ("compute", "checkpoint", 3.5),
    ("compute", "middle", 2.0),  # of a step that was quick before, three times as long
    ("compute", "evaluation", 2.0),
    ("nap", "first", 1.5),
    ("nap", "checkpoint", 1.5),
    ("nap", "each-evaluation", 0.5),  # many batches, each of which is a sign of life
    ("download", "first", 2.0),
]


def program(folder: Path, fault: str, rank: int, moment: str, **more: object) -> FaultyLaunch:
    options = ["--cpu", "2", "--name", "patient", "--hang-timeout", f"{HANG_TIMEOUT:g}"]
    planted = [str(PROGRAMS / "fault_script.py"), fault, str(rank), moment]
    return FaultyLaunch(["run", *options, *planted], folder, env={"FAULT_SECONDS": str(LONG)}, **more)


def training(own: Path, folder: Path, fault: str, moment: str, times: float) -> FaultyLaunch:
    model = f"model.use={PROGRAMS / 'fault_model.py'}:model"
    what = ["train", str(own / "own.yaml"), model, "train.epochs=3", "--cpu", "2"]
    planted = {"FAULT": f"{fault} 1 {moment}", "FAULT_SECONDS": str(times * HANG_TIMEOUT)}
    return FaultyLaunch(
        [*what, "--name", "patient", "--hang-timeout", f"{HANG_TIMEOUT:g}"], folder, env=planted
    )


def check_well(run: FaultyLaunch) -> str:
    status, err = run.end()
    assert status == 0, err
    assert "this is a hang" not in err, err  # nor is there a warning
    assert list(runs_folder().glob("*/attempt-*/stack-*")) == [], "ranks that were looked at, but were well"
    return err


@pytest.mark.parametrize("load", [0, pytest.param(BUSY_PROCESSES, id="loaded")])
@pytest.mark.parametrize(("fault", "moment"), PROGRAM)
@pytest.mark.exhaustive
def test_a_program_that_works_does_not_hang(tmp_path: Path, fault: str, moment: str, load: int) -> None:
    with busy_cores(load), cleaned_up(program(tmp_path, fault, 1, moment)) as run:
        check_well(run)


@pytest.mark.parametrize(
    ("fault", "moment", "times", "load"),
    cases(
        [(*row, load) for row in TRAINING for load in (0, BUSY_PROCESSES)], [("download", "first", 2.0, 0)]
    ),
)
def test_a_training_that_works_does_not_hang(
    own: Path, tmp_path: Path, fault: str, moment: str, times: float, load: int
) -> None:
    with busy_cores(load), cleaned_up(training(own, tmp_path, fault, moment, times)) as run:
        check_well(run)


@pytest.mark.exhaustive
def test_a_program_whose_ranks_all_sleep_does_not_hang(tmp_path: Path) -> None:
    (tmp_path / "sleeps.py").write_text(f"import time; time.sleep({LONG})")
    options = ["--cpu", "2", "--name", "sleeps", "--hang-timeout", f"{HANG_TIMEOUT:g}"]
    with cleaned_up(FaultyLaunch(["run", *options, str(tmp_path / "sleeps.py")], tmp_path)) as run:
        check_well(run)


@pytest.mark.exhaustive
def test_a_prompt_is_no_hang(tmp_path: Path) -> None:
    with cleaned_up(program(tmp_path, "prompt", 0, "middle", stdin=subprocess.PIPE)) as run:
        time.sleep(LONG + 6)  # from the start on; nobody is at the keyboard
        assert run.process.poll() is None
        status, err = run.process.communicate("yes\n")[1], run.process.returncode
        assert err == 0, status


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", ["run", "train"])
@pytest.mark.parametrize("who", ["all", "launcher"])
def test_a_launch_that_was_stopped_and_goes_on_does_not_hang(
    own: Path, tmp_path: Path, command: str, who: str
) -> None:
    """Ctrl-Z reaches the launcher alone, whose ranks are in sessions of their own; a container's pause reaches all."""
    begin = program(tmp_path, "pause", 1, "middle") if command == "run" else None
    with cleaned_up(begin or training(own, tmp_path, "pause", "middle", 1)) as run:
        run.wait_until_ready()
        stopped = run.family() if who == "all" else [psutil.Process(run.process.pid)]
        for process in stopped:
            process.send_signal(signal.SIGSTOP)
        time.sleep(2 * HANG_TIMEOUT)
        for process in reversed(stopped):  # the launcher last, which then sees nothing but standstill
            process.send_signal(signal.SIGCONT)
        run.resume()
        check_well(run)


@pytest.mark.exhaustive
@pytest.mark.parametrize("command", ["run", "train"])
@pytest.mark.parametrize("fault", ["stop", "sleep", "skip"])
def test_a_hang_is_found_on_a_loaded_machine(own: Path, tmp_path: Path, command: str, fault: str) -> None:
    with busy_cores(BUSY_PROCESSES):
        begin = program(tmp_path, fault, 1, "middle") if command == "run" else None
        with cleaned_up(begin or training(own, tmp_path, fault, "middle", 1)) as run:
            status, err = run.end()
    assert status == 5, err
    named = (
        "rank 1 of 2 hangs" if fault != "skip" else "2 ranks wait for each other"
    )  # of two, none is the odd one
    assert named in err

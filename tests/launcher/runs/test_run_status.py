"""Run folders as launchers leave them; the lock is the real one, held by this process or by one that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lockstep.data.common.errors import UsageError
from lockstep.launcher.commands import status as board
from lockstep.launcher.runs.run_folder import runs_root
from lockstep.launcher.runs.run_lock import hold_run_lock
from lockstep.launcher.runs.run_status import all_runs, format_age, read_status, record_cancellation
from lockstep.launcher.runs.stop_requests import record_stop_reason, write_request
from tests.helpers.launch import LAUNCH, WATCHDOG, Launch
from tests.helpers.run_folders import locked_by_another, make_run, step_event


def row(epoch: int, number: int, accuracy: float = 0.75) -> dict[str, Any]:
    values = {"train/loss": 0.4, "val/loss": 0.3, "val/accuracy": accuracy, "val/count": 211}
    return {"time": 1.0, "event": "epoch", "epoch": epoch, "step": number, **values, "train_seconds": 1.0}


START = {"time": 1.0, "event": "start", "step": 0}
DONE = {"status": "done", "exit_code": 0, "epochs": 2, "steps": 66, "metrics": {"val/loss": 0.25}}


@pytest.mark.parametrize(
    ("events", "epoch", "number", "metrics"),
    [
        ([], 0, 0, {}),
        ([START], 0, 0, {}),
        ([START, step_event(10), step_event(20, loss=0.25)], 0, 20, {"train/loss": 0.25}),
        ([START, step_event(33), row(0, 33)], 1, 33, "row"),
        ([START, step_event(33), row(0, 33), step_event(40, 1)], 1, 40, "row"),
        ([row(0, 33), step_event(66, 1), row(1, 66), {"event": "checkpoint", "step": 66}], 2, 66, "row"),
        ([row(0, 33), {"event": "start", "step": 33}], 1, 33, "row"),
    ],
    ids=["nothing", "start", "first epoch", "a row", "second epoch", "checkpoint", "goes on"],
)
def test_progress_is_read_from_the_end_of_the_record(
    events: list[dict[str, Any]], epoch: int, number: int, metrics: Any
) -> None:
    folder = make_run("first", *events)
    wanted = {key: value for key, value in row(0, 0).items() if "/" in key} if metrics == "row" else metrics
    with hold_run_lock(folder):
        status = read_status(folder)
    assert (status.epoch, status.step, status.metrics) == (epoch, number, wanted)
    assert status.owner is not None
    assert (status.status, status.owner.pid, status.is_over) == ("running", os.getpid(), False)


def test_a_last_line_that_is_being_written_and_a_damaged_one_are_passed_over() -> None:
    folder = make_run("first", row(0, 33), step_event(40, 1))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('no json\n[1]\n{"event": "step", "epoch": 1, "st')
    assert read_status(folder).step == 40


def test_a_long_epoch_is_looked_through_for_one_run_and_not_for_the_table() -> None:
    folder = make_run("first", row(0, 33), *(step_event(33 + n, 1) for n in range(3000)))
    assert read_status(folder).metrics["val/accuracy"] == 0.75
    (short,) = all_runs(runs_root())
    assert (short.step, short.epoch, set(short.metrics)) == (3032, 1, {"train/loss"})


@pytest.mark.parametrize(
    ("outcome", "status", "interrupted", "resumable"),
    [
        (DONE, "done", False, False),
        ({"status": "stopped", "exit_code": 75, "steps": 7, "epochs": 0}, "stopped", False, True),
        (
            {"status": "failed", "exit_code": 4, "error": {"message": "rank 1 was lost"}},
            "failed",
            False,
            True,
        ),
        (None, "failed", True, True),
        ({"status": "what"}, "failed", False, True),
    ],
    ids=["done", "stopped", "failed", "interrupted", "unknown"],
)
def test_a_run_that_nobody_holds_is_what_its_outcome_says_else_interrupted(
    outcome: dict[str, Any] | None,
    status: str,
    interrupted: object,
    resumable: object,
) -> None:
    folder = make_run("first", step_event(5), outcome=outcome)
    found = read_status(folder)
    document = found.to_json()
    assert (found.status, document["interrupted"], document["resumable"]) == (status, interrupted, resumable)
    assert found.step == (outcome or {}).get("steps", 5)
    assert document["exit_code"] == (outcome or {}).get("exit_code")


def test_the_outcome_of_an_earlier_attempt_does_not_count_while_a_launcher_has_the_run() -> None:
    folder = make_run("first", step_event(5), outcome={**DONE, "status": "stopped"})
    with hold_run_lock(folder):
        assert read_status(folder).to_json() | {"updated": 0} == {
            "run": "first",
            "run_dir": str(folder),
            "kind": "train",
            "status": "running",
            "interrupted": False,
            "resumable": False,
            "epoch": 0,
            "step": 5,
            "planned": None,
            "metrics": {"train/loss": 0.5},
            "updated": 0,
            "owner": {"pid": os.getpid(), "host": os.uname().nodename, "user": read_user()},
            "attempts": [1],
            "exit_code": None,
            "error": None,
        }
    assert read_status(folder).status == "stopped"


def read_user() -> str:
    from lockstep.data.common.processes import user_name

    return user_name(os.getuid())


def test_a_launcher_that_was_killed_leaves_a_failed_run() -> None:
    folder = make_run("first", step_event(5))
    with locked_by_another(folder) as process:
        assert read_status(folder).status == "running"
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=WATCHDOG)
        assert read_status(folder).was_interrupted


def test_a_run_that_was_asked_to_stop_is_stopping_and_the_next_attempt_is_not() -> None:
    folder = make_run("first")
    with hold_run_lock(folder):
        write_request(folder, "checkpoint")
        assert read_status(folder).status == "running"
        write_request(folder, "stop")
        assert read_status(folder).status == "stopping"
    with hold_run_lock(folder):
        assert read_status(folder).status == "running"
        record_stop_reason(folder, "SIGTERM")
        assert read_status(folder).status == "stopping"


def test_looking_does_not_keep_a_launcher_from_its_run() -> None:
    folder = make_run("first")
    code = (
        "import sys; from pathlib import Path; from lockstep.launcher.process.file_lock import is_held\n"
        "print('held', flush=True)\nwhile True: is_held(Path(sys.argv[1]) / '.lock')"
    )
    with locked_by_another(folder, code):
        for _ in range(200):
            with hold_run_lock(folder):
                pass


def test_what_is_no_run_is_not_listed_and_a_script_and_one_being_prepared_are(tmp_path: Path) -> None:
    make_run("script", kind="run", outcome={"status": "done", "exit_code": 0})
    make_run("no-run", kind="other")
    (runs_root() / "a file").write_text("")
    (runs_root() / "begun").mkdir()
    with hold_run_lock(runs_root() / "begun"):
        assert {run.folder.name: run.status for run in all_runs(runs_root())} == {
            "begun": "running",
            "script": "done",
        }
    assert read_status(runs_root() / "script").to_json()["kind"] == "run"
    assert not read_status(runs_root() / "script").is_resumable
    assert all_runs(tmp_path / "nowhere") == []


def test_the_table_has_those_that_run_first_then_the_newest(capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("old", "newer", "newest")):
        folder = make_run(name, outcome=DONE)
        for path in folder.iterdir():
            os.utime(path, (number, number))
    running = make_run("runs", step_event(33), row(0, 33, accuracy=0.5))
    with hold_run_lock(running):
        assert board.show_status(None, watch=False, as_json=False) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "status", "epochs", "steps", "metric", "age"]
    assert [text.split()[0] for text in rows] == ["runs", "newest", "newer", "old"]
    assert rows[0].split()[1:7] == ["running", "1", "33", "val", "accuracy", "50.00%"]
    assert rows[1].split()[1:7] == ["done", "2", "66", "val", "loss", "0.2500"]


def test_a_run_s_own_view_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    make_run(
        "first",
        step_event(5),
        outcome={"status": "failed", "exit_code": 4, "error": {"message": "rank 1\nmore"}},
    )
    board.show_status("first", watch=False, as_json=False)
    out = capsys.readouterr().out
    assert "first: failed" in out
    assert "error: rank 1" in out
    assert "launch resume first" in out
    with hold_run_lock(runs_root() / "first"):
        board.show_status("first", watch=False, as_json=False)
    assert f"first is running: process {os.getpid()} of {read_user()}, since" in capsys.readouterr().out


def test_no_runs_and_no_such_run_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    board.show_status(None, watch=False, as_json=False)
    assert capsys.readouterr().out == f"no runs in {runs_root()}\n"
    board.show_status(None, watch=False, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "runs": [], "sweeps": []}
    make_run("first")
    with pytest.raises(UsageError, match="did you mean first"):
        board.show_status("frist", watch=False, as_json=False)


@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (7199, "1 h"), (86_400 * 9.5, "9 d")]
)
def test_ages_are_short(seconds: float, words: str) -> None:
    assert format_age(seconds) == words


def test_watching_goes_on_until_the_run_is_over_and_prints_what_has_changed() -> None:
    folder = make_run("first", step_event(5))
    with locked_by_another(folder) as process:
        watching = subprocess.Popen(
            [*LAUNCH, "status", "first", "--watch", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watching.stdout
        assert json.loads(watching.stdout.readline())["step"] == 5
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(step_event(6)) + "\n")
        assert json.loads(watching.stdout.readline())["step"] == 6
        process.communicate(timeout=WATCHDOG)
        (folder / "outcome.json").write_text(json.dumps(DONE))
        rest = watching.communicate(timeout=WATCHDOG)[0]
        assert json.loads(rest.splitlines()[-1])["status"] in ("done", "failed")
        assert watching.returncode == 0


def test_watching_ends_when_nobody_reads_and_at_a_signal() -> None:
    with locked_by_another(make_run("first")):
        for command in (["status", "--watch", "--json"], ["status", "first", "--watch"]):
            watching = subprocess.Popen(
                [*LAUNCH, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            assert watching.stdout
            assert watching.stdout.readline()
            watching.send_signal(signal.SIGINT)
            assert watching.wait(timeout=WATCHDOG) == 130
            watching.communicate()
        watching = subprocess.Popen([*LAUNCH, "status", "--watch", "--json"], stdout=subprocess.PIPE)
        assert watching.stdout
        watching.stdout.read(1)
        watching.stdout.close()
        deadline = time.monotonic() + WATCHDOG
        while watching.poll() is None:
            make_run(f"more-{time.monotonic_ns()}")
            assert time.monotonic() < deadline
            time.sleep(0.3)


def test_a_wrong_run_is_a_document_with_json(launch: Launch) -> None:
    result = launch("status", "nothing", "--json")
    assert result.status == 2
    assert result.document["error"]["kind"] == "UsageError"


def test_runs_that_this_user_may_not_read_are_left_out_of_the_table() -> None:
    make_run("ours", outcome=DONE)
    make_run("theirs", outcome=DONE)
    (runs_root() / "theirs").chmod(0o700 if os.geteuid() == 0 else 0)
    for part in (runs_root(), *runs_root().parents):
        part.chmod(part.stat().st_mode | 0o011) if part.owner() == Path.home().owner() else None
    code = (
        "import os, sys; from pathlib import Path; from lockstep.launcher.runs.run_status import all_runs\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "print([run.folder.name for run in all_runs(Path(sys.argv[1]))])"
    )
    (runs_root() / "ours").chmod(0o755)
    command = [sys.executable, "-P", "-c", code, str(runs_root())]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=WATCHDOG)
    (runs_root() / "theirs").chmod(0o700)
    assert done.stdout == "['ours']\n"


def test_a_run_that_could_not_say_that_it_was_cancelled_is_told_so_and_one_that_was_over_is_not() -> None:
    killed = make_run("killed", step_event(5))
    record_cancellation(killed)
    found = read_status(killed)
    assert (found.status, found.outcome["exit_code"], found.step) == ("cancelled", 143, 5)
    assert (found.is_over, found.was_interrupted) == (True, False)
    done = make_run("done", outcome={"status": "done"})
    stopped = make_run("stopped", outcome={"status": "stopped", "exit_code": 75})
    for folder in (done, stopped):
        record_cancellation(folder)
    assert (read_status(done).status, read_status(stopped).status) == ("done", "stopped")
    for folder in (done, stopped):  # of the latter a job was waiting
        record_cancellation(folder, anew=True)
    assert (read_status(done).status, read_status(stopped).status) == ("done", "cancelled")
    record_cancellation(killed.with_name("removed"))
    assert not killed.with_name("removed").exists()

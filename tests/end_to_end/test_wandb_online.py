"""One W&B run over all attempts, without gap or overlap, on a server: wandb's own service talks to one of ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lockstep.data.config.dataset_info import DatasetInfo, SplitInfo
from lockstep.training.config.run_config import RunConfig, RunSpec
from lockstep.training.tracking.rewinding import rewind
from lockstep.training.tracking.rows import last_row_number
from tests.helpers.launch import LAUNCH, WATCHDOG, Launch, run_command, run_folder
from tests.helpers.user_project import KILLED_LOSS
from tests.helpers.wandb_server import Bucket, WandbServer

OWN_KEYS = ("_step", "_runtime", "_timestamp")  # what W&B adds to a row


REWINDS = [
    pytest.param(True, id="a server that rewinds"),
    pytest.param(False, id="a server that does not", marks=pytest.mark.exhaustive),
]


@pytest.fixture(params=REWINDS)
def server(request: pytest.FixtureRequest) -> Iterator[WandbServer]:
    with WandbServer(rewinds=request.param) as running:
        yield running


@pytest.fixture
def plain_server() -> Iterator[WandbServer]:
    with WandbServer(rewinds=False) as running:
        yield running


def logged(run: Path) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl`` that W&B is to have."""
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [event for event in events if event["event"] in ("step", "epoch")]
    left_out = ("time", "event", "epoch_number")
    return [
        {key: value for key, value in row.items() if key not in left_out} | {"epoch": row["epoch"] + 1}
        for row in rows
    ]


def held(server: WandbServer) -> list[dict[str, Any]]:
    """The rows that the server has of its only run."""
    (bucket,) = server.runs.values()
    return [{key: value for key, value in row.items() if key not in OWN_KEYS} for row in bucket.rows]


def assert_increasing(bucket: Bucket) -> None:
    numbers = [row["_step"] for row in bucket.rows]
    assert numbers == sorted(set(numbers))


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "server",
    [pytest.param(True, id="rewinds", marks=pytest.mark.exhaustive), pytest.param(False, id="does not")],
    indirect=True,
)
def test_killed_after_a_checkpoint_and_resumed_it_is_one_run_with_every_row_once(
    launch: Launch, own: Path, server: WandbServer
) -> None:
    (own / "own.py").write_text((own / "own.py").read_text() + KILLED_LOSS)
    settings = ("loss.use=./own.py:killed", "checkpoint.every_steps=10", "log.every_steps=4")
    killed = {**server.environment, "KILL_AT": "53"}
    assert launch("train", "own.yaml", *settings, "--name", "w", cwd=own, env=killed).status == 4
    run = run_folder("w")
    first = held(server)
    assert first == logged(run)
    assert first[-1]["step"] > 40  # logged after the checkpoint that is resumed from
    result = launch("resume", "w", cwd=own, env=server.environment)
    assert result.status == 0
    assert "warning: W&B" not in result.err
    assert held(server) == logged(run)
    ((name, bucket),) = server.runs.items()
    assert_increasing(bucket)
    assert name == json.loads((run / "spec.json").read_text())["wandb_id"]
    assert bucket.display_name == "w"
    assert bucket.exits[-1] == 0
    assert bucket.summary["epoch"] == 2
    assert server.operations.count("RewindRun") == 1


# --- the feeder by itself


def row(step: int, loss: float, *, epoch: int | None = None) -> str:
    kind = {"event": "step"} if epoch is None else {"event": "epoch", "val/loss": loss / 2}
    return json.dumps({"time": 1.0, **kind, "epoch": epoch or 0, "step": step, "train/loss": loss}) + "\n"


def write(run: Path, *rows: str) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.writelines(rows)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder as far as the feeder looks at it."""
    config = RunConfig.model_validate({"wandb": {"mode": "auto"}})
    facts = DatasetInfo("own", "user", SplitInfo(9, {}), None, (7,), None, 2, None, (), None, None)
    spec = RunSpec("w", config, tmp_path, facts, "cpu", "1d1d1d1d")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.json").write_text(json.dumps(spec.to_json()))
    return tmp_path / "run"


def start(run: Path, server: WandbServer, mode: str = "online") -> subprocess.Popen[str]:
    """A feeder, as ``start_feeder`` starts it; told what is kept by what is there now."""
    kept = str(last_row_number(run / "metrics.jsonl"))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "lockstep.training.tracking.feeder", str(run), "wandb", kept],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **server.environment, "WANDB_MODE": mode},
    )


def feed(run: Path, server: WandbServer, *rows: str, status: str = "0", mode: str = "online") -> None:
    """One attempt's feeder, from start to end; ``rows`` are what the attempt logs."""
    feeder = start(run, server, mode)
    write(run, *rows)
    _, errors = feeder.communicate(status, timeout=WATCHDOG)
    assert feeder.returncode == 0, errors


def test_rows_that_a_killed_attempt_logged_in_other_places_are_rewound_or_kept_but_never_out_of_order(
    run: Path, server: WandbServer
) -> None:
    feed(run, server, row(5, 5.0), row(10, 4.0), row(15, 3.0), row(20, 2.5), status="4")
    rewind(run / "metrics.jsonl", 10, 0)
    feed(run, server, row(12, 3.6), row(18, 2.7), row(20, 2.5), row(20, 2.0, epoch=0), row(26, 1.0))
    (bucket,) = server.runs.values()
    assert_increasing(bucket)
    if server.rewinds:
        assert held(server) == logged(run)
    else:
        assert [row["step"] for row in held(server)] == [5, 10, 15, 20, 20, 26]


def await_begin(feeder: subprocess.Popen[Any], server: WandbServer) -> None:
    while "UpsertBucket" not in server.operations:
        assert feeder.poll() is None
        time.sleep(0.05)


@pytest.mark.exhaustive
def test_where_nothing_can_or_need_be_rewound_no_row_is_sent_twice(
    run: Path, plain_server: WandbServer
) -> None:
    feed(run, plain_server, row(5, 5.0), row(10, 4.0), status="4")
    (run / "metrics.jsonl").unlink()  # there was no checkpoint: the run starts again
    feed(run, plain_server, row(5, 5.0), row(10, 4.0), row(15, 3.0), status="4")
    assert held(plain_server) == logged(run)
    feed(run, plain_server, row(20, 2.0))  # nothing was logged after the checkpoint
    assert held(plain_server) == logged(run)
    assert "RewindRun" not in plain_server.operations


def test_what_a_killed_feeder_had_not_sent_is_sent_by_the_next(run: Path, plain_server: WandbServer) -> None:
    plain_server.stream_fault = "fails"
    feeder = start(run, plain_server)
    write(run, row(5, 5.0), row(10, 4.0))
    await_begin(feeder, plain_server)
    feeder.send_signal(signal.SIGKILL)
    feeder.communicate(timeout=WATCHDOG)
    plain_server.stream_fault = None
    assert held(plain_server) == []
    feed(run, plain_server, row(15, 3.0))
    assert held(plain_server) == logged(run)


@pytest.mark.exhaustive
def test_a_feeder_waits_for_the_one_of_an_attempt_whose_launcher_was_killed(
    run: Path, plain_server: WandbServer
) -> None:
    earlier = start(run, plain_server)
    write(run, row(5, 5.0), row(10, 4.0))
    await_begin(earlier, plain_server)
    later = start(run, plain_server)
    write(run, row(15, 3.0))
    with pytest.raises(subprocess.TimeoutExpired):
        later.communicate("0", timeout=5)
    earlier.communicate(timeout=WATCHDOG)
    later.communicate(timeout=WATCHDOG)
    assert (earlier.returncode, later.returncode) == (0, 0)
    assert held(plain_server) == logged(run)
    (bucket,) = plain_server.runs.values()
    assert (bucket.exits[0], bucket.exits[-1]) == (1, 0)


@pytest.mark.exhaustive
def test_an_offline_record_is_superseded_by_an_attempt_that_is_online(
    run: Path, plain_server: WandbServer
) -> None:
    plain_server.fault = "refuses"
    feeder = start(run, plain_server)
    write(run, row(5, 5.0))
    feeder.communicate("4", timeout=WATCHDOG)
    assert feeder.returncode == 3
    (offline,) = (run / "wandb").glob("offline-run-*")
    plain_server.fault = None
    feed(run, plain_server, row(10, 4.0))
    assert held(plain_server) == logged(run)
    assert list((run / "wandb").glob("offline-run-*")) == []
    assert (run / "wandb-superseded" / f"{offline.name}-0").is_dir()


@pytest.mark.exhaustive
def test_what_was_not_sent_when_the_server_was_down_is_sent_later_and_once(
    run: Path, plain_server: WandbServer
) -> None:
    feed(run, plain_server, row(5, 5.0), row(10, 4.0), status="4")
    plain_server.fault = "refuses"
    feeder = start(run, plain_server)
    write(run, row(15, 3.0))
    _, errors = feeder.communicate("0", timeout=WATCHDOG)
    assert (feeder.returncode, "can be sent later" in errors) == (1, True)
    assert list((run / "wandb").glob("offline-run-*")) == []  # `wandb sync` would append the whole record
    plain_server.fault = None
    (run / "outcome.json").write_text('{"exit_code": 0}')
    command = [sys.executable, "-P", "-m", "lockstep.training.wandb_feed", str(run)]
    for _ in range(2):
        subprocess.run(command, check=True, env={**os.environ, **plain_server.environment}, timeout=WATCHDOG)
        assert held(plain_server) == logged(run)
    (bucket,) = plain_server.runs.values()
    assert bucket.exits == [4, 0, 0]


@pytest.mark.exhaustive
def test_wandb_sync_sends_the_one_offline_record_and_not_what_it_supersedes(
    run: Path, plain_server: WandbServer
) -> None:
    feed(run, plain_server, row(5, 5.0), row(10, 4.0), row(15, 3.5), status="4", mode="offline")
    rewind(run / "metrics.jsonl", 10, 0)
    feed(run, plain_server, row(15, 3.0), row(20, 2.0), mode="offline")
    assert plain_server.runs == {}
    sync = [sys.executable, "-m", "wandb", "sync", "--yes"]
    subprocess.run(
        sync, cwd=run, check=True, env={**os.environ, **plain_server.environment}, timeout=WATCHDOG
    )
    assert held(plain_server) == logged(run)
    assert list(plain_server.runs) == ["1d1d1d1d"]
    feed(run, plain_server, row(25, 1.0))
    assert held(plain_server) == logged(run)


# --- a server that is no help

BOUND = 6
IMPATIENT = [
    sys.executable,
    "-P",
    "-c",
    f"import lockstep.training.tracking.feeder_processes as feed; feed.FINISH_SECONDS = {BOUND}\n"
    + LAUNCH[-1],
]


def test_a_feeder_that_nobody_waits_for_ends_by_itself_and_leaves_no_process(
    run: Path, plain_server: WandbServer
) -> None:
    plain_server.stream_fault = "hangs"
    code = "import sys, lockstep.training.tracking.feeder as feed; "
    code += f"feed.FINISH_SECONDS = {BOUND}; feed.main(sys.argv[1:])"
    write(run, row(5, 5.0))
    orphan = subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(run), "wandb", "-1"],
        stdin=subprocess.PIPE,
        env={**os.environ, **plain_server.environment},
    )
    await_begin(orphan, plain_server)
    service = psutil.Process(orphan.pid).children()
    orphan.communicate(timeout=WATCHDOG)
    assert orphan.returncode == -signal.SIGALRM
    assert [process.name() for process in service] == ["wandb-core"]
    assert psutil.wait_procs(service, timeout=WATCHDOG)[1] == []


@pytest.mark.parametrize("fault", ["hangs", pytest.param("fails", marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("begins", [True, pytest.param(False, marks=pytest.mark.exhaustive)])
def test_a_server_that_hangs_or_fails_costs_one_warning_and_no_row(
    own: Path, plain_server: WandbServer, fault: str, *, begins: bool
) -> None:
    if begins:
        plain_server.stream_fault = fault
    else:
        plain_server.fault = fault
    done = run_command(
        [*IMPATIENT, "train", "own.yaml", "log.every_steps=1", "--name", "w", "--cpu", "1"],
        cwd=own,
        env={**os.environ, **plain_server.environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: W&B") == 1
    rows = logged(run_folder("w"))
    assert [row["step"] for row in rows if "val/loss" not in row] == list(range(1, 67))
    assert sum("val/loss" in row for row in rows) == 2

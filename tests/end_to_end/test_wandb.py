"""Weights & Biases: one run, from rank 0 alone, each epoch once; and nothing that it does or leaks touches training."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.launch import LAUNCH, Launch, Result, run_command, run_folder
from tests.helpers.run_records import UNORDERED_EVENTS
from tests.helpers.wandb_records import logged_rows, records, records_of, wandb_folders

CANARY = "canary0123456789canary0123456789canary01"  # as long as W&B's keys are
VOLATILE = ("time", "samples_per_second", "train_seconds", "val_seconds", "memory_peak_mb")


def _events(run: Path) -> list[dict[str, Any]]:
    """``metrics.jsonl`` without what differs from run to run."""
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    events = [event for event in events if event["event"] not in UNORDERED_EVENTS]
    return [{key: value for key, value in event.items() if key not in VOLATILE} for event in events]


def _offline_rows(run: Path) -> list[dict[str, Any]]:
    """Rows with an evaluation, of the one folder that was recorded offline."""
    (file,) = (run / "wandb").glob("offline-run-*/*.wandb")
    rows = [record.history for record in records(file) if record.WhichOneof("record_type") == "history"]
    named = [{item.key or "/".join(item.nested_key): item.value_json for item in row.item} for row in rows]
    return [row for row in named if "val/loss" in row]


def test_a_resumed_run_is_one_offline_run_without_gap_or_overlap(launch: Launch, own: Path) -> None:
    text = "\nimport os, signal\ncalls = 0\ndef killed(output, target):\n    global calls\n    calls += 1\n"
    text += "    if calls == int(os.environ.get('KILL_AT', '0')):\n        os.killpg(os.getpgrp(), signal.SIGKILL)\n"
    text += "    return nn.functional.cross_entropy(output, target, reduction='none')\n"
    (own / "own.py").write_text((own / "own.py").read_text() + text)
    settings = (
        "loss.use=./own.py:killed",
        "checkpoint.every_steps=10",
        "log.every_steps=5",
        "train.epochs=3",
    )
    offline = {"WANDB_MODE": "offline"}
    first = launch("train", "own.yaml", *settings, "--name", "w", cwd=own, env={**offline, "KILL_AT": "60"})
    assert first.status == 4
    assert launch("resume", "w", cwd=own, env=offline).status == 0
    run = run_folder("w")
    events = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = [(event["step"], event["train/loss"]) for event in events if event["event"] in ("step", "epoch")]
    assert [(row["step"], row["train/loss"]) for row in logged_rows(run)] == logged
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [0, 1, 2]
    numbers = [row["_step"] for row in logged_rows(run)]
    assert numbers == sorted(set(numbers))
    (record,) = records_of(run, "run")
    (superseded,) = (run / "wandb-superseded").glob("*/*.wandb")
    (before,) = (one.run for one in records(superseded) if one.WhichOneof("record_type") == "run")
    assert record.run_id == before.run_id == json.loads((run / "spec.json").read_text())["wandb_id"]


@pytest.mark.exhaustive
def test_wandbs_own_variables_are_in_its_record_whatever_is_set_later(launch: Launch, own: Path) -> None:
    asked = {"WANDB_PROJECT": "mine", "WANDB_NAME": "try", "WANDB_RUN_GROUP": "tries", "WANDB_TAGS": "a,b"}
    _, run = _train(launch, own, "--cpu", "1", env={"WANDB_MODE": "offline", **asked})
    assert "environment WANDB_PROJECT" in (run / "config.yaml").read_text()
    later = {"WANDB_MODE": "offline", "WANDB_PROJECT": "other", "WANDB_NAME": "other"}
    assert launch("resume", "w", "train.epochs=3", cwd=own, env=later).status == 0
    (record,) = records_of(run, "run")
    assert (record.project, record.display_name, record.run_group) == ("mine", "try", "tries")
    assert sorted(record.tags) == ["a", "b"]


@pytest.mark.exhaustive
def test_a_run_that_fails_keeps_what_it_logged(launch: Launch, own: Path) -> None:
    text = "\ncalls = 0\ndef failing(output, target):\n    global calls\n    calls += 1\n"
    text += "    if calls > 60:\n        raise ValueError('late')\n"
    text += "    return nn.functional.cross_entropy(output, target, reduction='none')\n"
    (own / "own.py").write_text((own / "own.py").read_text() + text)
    settings = ("loss.use=./own.py:failing", "--cpu", "2", "--name", "w")
    result = launch("train", "own.yaml", *settings, cwd=own, env={"WANDB_MODE": "offline"})
    assert result.status == 1
    run = run_folder("w")
    assert [row["epoch"] for row in logged_rows(run) if "val/loss" in row] == [1]
    (exit_record,) = records_of(run, "exit")
    assert exit_record.exit_code == 1


def _train(launch: Launch, own: Path, *settings: str, env: dict[str, str]) -> tuple[Result, Path]:
    result = launch("train", "own.yaml", *settings, "--name", "w", cwd=own, env=env)
    assert result.status == 0, result.err
    return result, run_folder("w")


@pytest.mark.exhaustive
def test_a_run_of_three_processes_is_one_offline_run_with_each_epoch_once_and_in_order(
    launch: Launch, own: Path
) -> None:
    _, run = _train(launch, own, "train.epochs=3", "--cpu", "3", env={"WANDB_MODE": "offline"})
    spec = json.loads((run / "spec.json").read_text())
    (record,) = records_of(run, "run")
    assert (record.run_id, record.project, record.display_name) == (spec["wandb_id"], "lockstep", "w")
    logged = {item.key: json.loads(item.value_json) for item in record.config.update}
    assert logged["data"]["batch_size"] == 31
    epochs = [row for row in logged_rows(run) if "val/loss" in row]
    told = [event for event in _events(run) if event["event"] == "epoch"]
    assert [row["epoch"] for row in epochs] == [1, 2, 3]
    for row, event in zip(epochs, told, strict=True):
        sent = {**event, "epoch": event["epoch_number"]}
        assert {key: row[key] for key in sent if key not in ("event", "epoch_number")} == {
            k: sent[k] for k in sent if k not in ("event", "epoch_number")
        }
    assert [row["_step"] for row in logged_rows(run)] == [
        2 * row["step"] + ("val/loss" in row) for row in logged_rows(run)
    ]
    assert len(logged_rows(run)) == sum(event["event"] in ("epoch", "step") for event in _events(run))
    (end,) = records_of(run, "exit")
    assert end.exit_code == 0


def _without_a_word(own: Path, tmp_path: Path, *arguments: str) -> Path:
    """Train with stdin closed and nobody logged in; the run folder."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    done = run_command(
        ["sh", "-c", 'exec "$@" <&-', "sh", *LAUNCH, "train", "own.yaml", "--name", "w", *arguments],
        cwd=own,
        env={**environment, "HOME": str(home)},
    )
    assert done.returncode == 0, done.stderr
    return run_folder("w")


@pytest.mark.exhaustive
def test_nobody_who_is_not_logged_in_is_asked_anything(own: Path, tmp_path: Path) -> None:
    run = _without_a_word(own, tmp_path, "--cpu", "2")
    assert all(
        folder.name.startswith("offline-run-") for folder in wandb_folders(run) if not folder.is_symlink()
    )
    assert len([row for row in logged_rows(run) if "val/loss" in row]) == 2


BROKEN = {
    "raises": 'raise RuntimeError("this wandb is broken")',
    "is slow and raises": 'import time\ntime.sleep(5)\nraise RuntimeError("this wandb is broken")',
    "ends its process": "import os\nos._exit(9)",
    "has no init": "x = 1",
    "sleeps for ever": "import time\ntime.sleep(100_000)",
}


@pytest.mark.parametrize(
    "how",
    [pytest.param(how, marks=[pytest.mark.exhaustive] * (how != "raises")) for how in BROKEN],
)
def test_disabled_leaves_no_trace_and_a_broken_wandb_changes_nothing_but_a_warning(
    launch: Launch, own: Path, tmp_path: Path, how: str
) -> None:
    fake = tmp_path / "fake" / "wandb"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text(BROKEN[how] + "\n")
    _, honest = _train(launch, own, "--cpu", "1", env={"WANDB_MODE": "disabled"})
    assert [path for path in honest.rglob("*") if "wandb" in path.name] == []
    expected = _events(honest)
    shutil.rmtree(honest)
    broken = {"WANDB_MODE": "offline", "PYTHONPATH": str(fake.parent)}
    result, run = _train(launch, own, "--cpu", "1", env=broken)
    assert _events(run) == expected
    assert result.err.count("warning: W&B") == 1
    assert (run / "attempt-1" / "wandb.log").exists()


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _files_with(word: str, *folders: Path) -> list[Path]:
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if word.encode() in path.read_bytes()]


@pytest.mark.parametrize("mode", [pytest.param("online", marks=pytest.mark.exhaustive), "offline"])
def test_no_key_is_written_anywhere_and_a_server_that_is_down_costs_nothing(
    launch: Launch, own: Path, tmp_path: Path, mode: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        "WANDB_API_KEY": CANARY,
        "WANDB_BASE_URL": f"http://127.0.0.1:{_closed_port()}",
        "WANDB_MODE": mode,
        "HOME": str(home),
    }
    result, run = _train(launch, own, f"wandb.mode={mode}", "--cpu", "1", env=environment)
    assert _events(run)[-1] == {"event": "end", "status": "done", "step": 66}
    assert (run / "metrics.jsonl").read_text().count('"event": "epoch"') == 2
    assert CANARY not in result.out + result.err
    assert _files_with(CANARY, run, home, own) == []
    assert result.err.count("warning: W&B could not be reached") == (mode == "online")
    rows = [row for row in logged_rows(run) if "val/loss" in row] if mode == "offline" else _offline_rows(run)
    assert len(rows) == 2

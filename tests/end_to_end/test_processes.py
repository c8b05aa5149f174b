"""Processes: who starts them, that they listen nowhere but on loopback, and that none is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.helpers.launch import LAUNCH, WATCHDOG, Launch, free_port, run_command, run_folder

SLOW = """
import os, pathlib, time
class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(7, 2)
        pathlib.Path(f"pid-{os.environ['RANK']}").write_text(str(os.getpid()))
    def forward(self, x):
        time.sleep(0.02)
        return self.layer(x)
def slow():
    return Slow()
"""


def _spec(launch: Launch, own: Path, folder: Path) -> Path:
    """A run folder with nothing but a spec, as ``--dry-run --json`` hands it out."""
    planned = launch("train", "own.yaml", "--dry-run", "--json", cwd=own)
    assert planned.status == 0, planned.err
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(json.dumps(planned.document["spec"]))
    return folder / "spec.json"


def _outcome(folder: Path) -> dict[str, object]:
    return json.loads((folder / "outcome.json").read_text())


@pytest.mark.parametrize("starter", ["torchrun", pytest.param("accelerate", marks=pytest.mark.exhaustive)])
def test_torchrun_and_accelerate_launch_start_the_same_worker(
    launch: Launch, own: Path, tmp_path: Path, starter: str
) -> None:
    spec = _spec(launch, own, tmp_path / "theirs")
    module = ["-m", "lockstep.training.worker", str(spec)]
    port = free_port()
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={port}", *module]
    # With --cpu, accelerate would run one process whatever --num_processes says; the spec keeps the ranks on the CPU.
    accelerate = ["-m", "accelerate.commands.accelerate_cli", "launch", "--multi_gpu", "--num_machines=1"]
    accelerate += ["--num_processes=2", f"--main_process_port={port}", "--mixed_precision=no", *module]
    command = torchrun if starter == "torchrun" else accelerate
    done = run_command([sys.executable, *command], cwd=own)
    assert done.returncode == 0, done.stderr
    ours = launch("train", "own.yaml", "--cpu", "2", "--json", cwd=own).document
    theirs = _outcome(spec.parent)
    assert theirs["world_size"] == 2
    for key in ("order_sha256", "consumed_digest", "ranks"):
        assert theirs[key] == ours[key]
    # Threads per rank differ from starter to starter, and with them the last bits of a sum.
    assert theirs["metrics"] == pytest.approx(ours["metrics"], rel=1e-12)


def _start_slow(own: Path, *arguments: str) -> subprocess.Popen[str]:
    (own / "own.py").write_text((own / "own.py").read_text() + SLOW)
    command = [*LAUNCH, "train", "own.yaml", "model.use=./own.py:slow", "train.epochs=50", "--name", "slow"]
    return subprocess.Popen(
        [*command, *arguments], cwd=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _wait_for_training(process: subprocess.Popen[str]) -> None:
    """Wait until the first epoch is logged."""
    metrics = run_folder("slow") / "metrics.jsonl"
    deadline = time.monotonic() + WATCHDOG
    while not (metrics.exists() and '"epoch"' in metrics.read_text()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _check_all_gone(family: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(family, timeout=10)
    assert [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.exhaustive), 1])
def test_a_killed_rank_ends_the_run_and_is_named(own: Path, victim: int) -> None:
    process = _start_slow(own, "--cpu", "2")
    _wait_for_training(process)
    family = _family(process)
    os.kill(int((own / f"pid-{victim}").read_text()), signal.SIGKILL)
    _, err = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 4
    assert f"rank {victim} of 2 was killed by SIGKILL" in err
    _check_all_gone(family)
    assert _outcome(run_folder("slow"))["status"] == "failed"


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive), signal.SIGTERM]
)
def test_a_signal_to_launch_ends_every_process(own: Path, number: signal.Signals) -> None:
    process = _start_slow(own, "--cpu", "2")
    _wait_for_training(process)
    family = _family(process)
    process.send_signal(number)
    process.communicate(timeout=WATCHDOG)
    assert process.returncode == 75
    _check_all_gone(family)
    assert _outcome(run_folder("slow"))["status"] == "stopped"


def test_nothing_listens_outside_loopback_and_killing_launch_itself_leaves_no_process(own: Path) -> None:
    process = _start_slow(own, "--cpu", "3")
    _wait_for_training(process)
    family = _family(process)
    listening = [
        connection.laddr.ip
        for member in family
        for connection in member.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    process.kill()
    process.communicate(timeout=WATCHDOG)
    _check_all_gone(family)
    assert listening
    assert set(listening) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_rank_that_leaves_early_with_status_0_is_a_failure(launch: Launch, own: Path) -> None:
    text = "\nimport os\nclass Leaver(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
    text += "        self.layer, self.calls = nn.Linear(7, 2), 0\n    def forward(self, x):\n        self.calls += 1\n"
    text += "        if self.calls == 20 and os.environ.get('RANK') == '1':\n            os._exit(0)\n"
    text += "        return self.layer(x)\ndef leaver():\n    return Leaver()\n"
    (own / "own.py").write_text((own / "own.py").read_text() + text)
    result = launch("train", "own.yaml", "model.use=./own.py:leaver", "--cpu", "2", cwd=own)
    assert result.status == 4
    assert "rank 1 of 2 ended with status 0 before its work was done" in result.err


@pytest.mark.exhaustive
def test_four_launches_in_the_same_second_do_not_collide(own: Path) -> None:
    command = [*LAUNCH, "train", "own.yaml", "train.epochs=1", "--cpu", "1", "--json"]
    started = [
        subprocess.Popen(command, cwd=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=WATCHDOG) for process in started]
    assert [process.returncode for process in started] == [0] * 4, outputs
    documents = [json.loads(out) for out, _ in outputs]
    assert len({document["run"] for document in documents}) == 4
    assert len({document["weights_sha256"] for document in documents}) == 1


@pytest.mark.exhaustive
def test_a_run_folder_can_be_trained_again_from_its_spec_alone(
    launch: Launch, own: Path, tmp_path: Path
) -> None:
    first = launch("train", "own.yaml", "--cpu", "1", "--json", cwd=own).document
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(Path(first["run_dir"]) / "spec.json", again)
    subprocess.run(
        [sys.executable, "-P", "-m", "lockstep.training.worker", str(again / "spec.json")],
        check=True,
        timeout=WATCHDOG,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert _outcome(again)["order_sha256"] == first["order_sha256"]

"""Training on shards from an S3 server, which is killed and comes back under the run."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.helpers.launch import LAUNCH, Launch, free_port, run_folder
from tests.helpers.run_records import DIGESTS
from tests.helpers.s3_server import CREDENTIALS, S3Server
from tests.helpers.shard_files import write_json_lines
from tests.helpers.slurm.cluster import wait_until
from tests.helpers.user_project import train_own, write_killable_project

CODE = """
import os, time, torch
from torch import nn

def model():
    made = nn.Sequential(nn.Linear(3, 10))
    nn.init.zeros_(made[0].weight), nn.init.zeros_(made[0].bias)
    return made

def decode(row):
    time.sleep(float(os.environ.get("SLOWLY", "0")))
    return torch.tensor([row["x"][0] / 1000, row["x"][1], row["x"][2]]), row["label"]
"""
CONFIG = """
data:
  use: shards
  args: {files: "files/train/*.jsonl", val_files: "files/val/*.jsonl", decode: "./own.py:decode", window: 6}
  batch_size: 31
  workers: 1
model: {use: "./own.py:model"}
loss: {use: "./own.py:killed"}
optimizer: {use: sgd, lr: 0.01, momentum: 0.9}
train: {epochs: 2, precision: fp64}
checkpoint: {every_steps: 5}
log: {every_steps: 1}
wandb: {mode: disabled}
"""


@pytest.mark.exhaustive
def test_a_server_that_is_killed_and_comes_back_leaves_no_trace(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs", reason="s3:// addresses need s3fs")
    pytest.importorskip("moto", reason="the S3 server is moto's")
    write_killable_project(tmp_path, CODE, CONFIG)
    write_json_lines(tmp_path / "files" / "train", 503, 120)
    write_json_lines(tmp_path / "files" / "val", 101, 2)
    local = train_own(launch, tmp_path, 2, "local").document
    server = S3Server(tmp_path / "files", free_port())
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    storage = f"data.args.storage={{endpoint_url: '{server.url}'}}"
    asked = (
        storage,
        "data.args.files=s3://shards/train/*.jsonl",
        "data.args.val_files=s3://shards/val/*.jsonl",
    )
    command = [*LAUNCH, "train", "own.yaml", *asked, "--cpu", "2", "--name", "killed", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    try:
        with subprocess.Popen(
            command, cwd=tmp_path, text=True, env={**os.environ, "SLOWLY": "0.04"}, **pipes
        ) as run:
            events = run_folder("killed") / "metrics.jsonl"
            wait_until(lambda: '"event": "step"' in text_of(events) or run.poll() is not None, "a step")
            server.stop()
            time.sleep(8)
            server.start()
            out, err = run.communicate(timeout=200)
        assert run.returncode == 0, err
    finally:
        server.stop()
    logs = [path.read_text() for path in run_folder("killed").glob("attempt-1/rank-*.log")]
    assert any("note: waiting for s3://shards/train/" in log for log in logs)
    remote = json.loads(out)
    assert [remote[key] for key in DIGESTS] == [local[key] for key in DIGESTS]
    assert remote["metrics"] == local["metrics"]


def text_of(path: Path) -> str:
    return path.read_text() if path.exists() else ""
